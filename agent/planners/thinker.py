"""The Thinker: what is weak, what helped, and what is left of the budget's use.

After the Thinker-A2CA agent of Resp-Agent (arXiv 2602.15909), which leaves the choice to an LLM; here every
term is written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

from agent.config import ThinkerConfig
from agent.planners.evidence import Belief, beliefs, pooled, variance_between
from agent.planners.plan import ClassState, Plan, PlanRequest
from agent.planners.shares import proportional
from agent.planners.styles import plannable, room, synthesis

STOP_ROUNDS = 2  # rounds with evidence before the Thinker may stop
SIGMAS = 2.0  # standard errors that a gain must lie below zero


def plan_thinker(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Share the budget out as the tail prior says, moved by the evidence; stop when nothing helps.

    A class's share is in proportion to ``need ** sharpness · help · passing / real ** prior``. With a ``prior``
    of 1 the last factor is the plan of ``class-prior``, which is what stands while nothing tells the classes
    apart: it is left only as far as the evidence goes, and where one class would take more than ``cap_share``.

    - ``need`` (:func:`needs`): what the diagnoser of this round gets wrong, as far as the classes can be told
      apart. ``sharpness`` stretches it, because needs of real profiles lie within a factor of two and would
      hardly move a share.
    - ``help`` (:func:`helpfulness`): what clips of the class brought in earlier rounds, as far as it is known.
    - ``passing`` (:func:`passing`): the share of its candidates that the screen let through; what is going
      to be dropped is better spent elsewhere.

    No class takes more than ``cap_share`` of the budget, since all figures are estimates, unless the
    classes could not hold the budget then; none takes more than its distinct draws.

    The plan is ``nothing`` once at least two rounds of clips have been measured for the tail and for the
    others, and in both the pooled gain lies two standard errors below zero.
    """
    states = plannable(request)
    reason = stop(states)
    if reason:
        return Plan(planner="thinker", method="nothing", budget=0, note=reason)
    believed, needed = beliefs(states), needs(states, request, config)
    weights = {}
    for c in states:
        wanted = max(needed[c.label], 1e-6) ** config.sharpness / c.real**config.prior
        weights[c.label] = wanted * helpfulness(believed.get(c.label), config) * passing(c)
    caps = room(states, "synthesize")
    share = max(int(config.cap_share * request.budget), 1)
    shared = {name: min(cap, share) for name, cap in caps.items()}
    held = sum(shared.values()) >= request.budget
    spent = proportional(weights, request.budget, shared if held else caps)
    reasons = {c.label: _reason(c, request, needed[c.label], believed.get(c.label)) for c in states}
    return synthesis("thinker", request, spent, reasons, config, confused=config.confused_with)


def needs(states: Sequence[ClassState], request: PlanRequest, config: ThinkerConfig) -> dict[str, float]:
    """How much each class asks for (>= 0): what was measured, drawn towards its mean.

    F1 of ten clips is known to about 0.12, and a budget that follows it follows noise. So what was measured
    of a class (:func:`measured`) keeps the weight ``τ² / (τ² + s²)`` (empirical Bayes): s is the standard
    error of its F1, τ² what F1 differs by between classes beyond these errors. Where classes cannot be told
    apart, they ask alike, and so does, for the mean, a class without clips in the plan split.
    """
    known = [c for c in states if c.support]
    raw = {c.label: measured(c, request, config) for c in known}
    mean = sum(raw.values()) / len(raw) if raw else 1.0
    own = {c.label: Belief(c.f1, c.f1_error) for c in known if c.f1_error is not None}
    between = variance_between(list(own.values())) if own else 0.0
    found = {}
    for c in states:
        value = raw.get(c.label, mean)
        if c.label in own:
            value = mean + (value - mean) * between / (between + own[c.label].error ** 2)
        found[c.label] = value
    return found


def measured(c: ClassState, request: PlanRequest, config: ThinkerConfig) -> float:
    """What the diagnoser gets wrong of a class: a sum of three terms, each in [0, 1] before its weight.

    - ``weakness · (1 − F1)``: the score that the loop is judged by.
    - ``doubt · (1 − confidence)``: among classes of equal F1, that with the smaller calibrated
      probability in its own clips is nearer to losing them.
    - ``confusion · pair`` (:func:`pair`): two classes taken for each other need clips on both sides.
    """
    value = config.weakness * (1 - c.f1) + config.doubt * (1 - c.confidence)
    return value + config.confusion * pair(c, request)


def pair(c: ClassState, request: PlanRequest) -> float:
    """Share of the clips of ``c`` and another class that are taken for each other, of the worst pair."""
    shares = [0.0]
    for other in request.classes:
        both = c.support + other.support
        if other.label != c.label and both:
            mixed = c.confusions.get(other.label, 0) + other.confusions.get(c.label, 0)
            shares.append(min(1.0, mixed / both))
    return max(shares)


def helpfulness(belief: Belief | None, config: ThinkerConfig) -> float:
    """``(2 Φ(gain / error)) ** config.gain``, from twice the chance that clips of the class help.

    1 where nothing is known or nothing changed, towards 2 for a sure gain and 0 for sure harm. An uncertain
    gain moves the budget little, however large it looks.
    """
    if belief is None:
        return 1.0
    # Never quite 0: a class that was given up can still be filled when all others are full.
    return max(2 * NormalDist().cdf(belief.gain / belief.error), 1e-6) ** config.gain


def passing(c: ClassState) -> float:
    """Share of the class's candidates that earlier screens let through, one more counted on that side.

    The one keeps a class open whose few candidates all failed.
    """
    return (c.screened - c.rejected + 1) / (c.screened + 1)


def stop(states: Sequence[ClassState]) -> str:
    """Why nothing more should be added; empty while anything may still help."""
    found = []
    for word, tail in (("tail", True), ("other", False)):
        group = [c for c in states if c.tail == tail]
        if not group:
            continue
        belief = pooled(group)
        if belief is None or max(len(c.gains) for c in group) < STOP_ROUNDS:
            return ""
        if belief.gain + SIGMAS * belief.error >= 0:
            return ""
        found.append(f"{word} classes {belief.gain:+.3f} ± {belief.error:.3f}")
    return "clips do harm: F1 per round of " + ", ".join(found)


def _reason(c: ClassState, request: PlanRequest, need: float, belief: Belief | None) -> str:
    error = "" if c.f1_error is None else f" ± {c.f1_error:.2f}"
    parts = [f"F1 {c.f1:.2f}{error}", f"confidence {c.confidence:.2f}"] if c.support else ["never measured"]
    if c.partner and pair(c, request) > 0:
        parts.append(f"taken for {c.partner} {c.confusions[c.partner]} of {c.support} times")
    parts += [f"{c.real} real clips in train"]
    parts += [f"gain {belief.gain:+.3f} ± {belief.error:.3f}"] if belief else []
    parts += [f"{c.rejected} of {c.screened} candidates rejected"] if c.rejected else []
    return f"need {need:.2f}: " + ", ".join(parts)
