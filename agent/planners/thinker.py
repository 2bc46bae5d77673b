"""The Thinker: what is weak, what helped, and what is left of the budget's use.

After the Thinker-A2CA agent of Resp-Agent (arXiv 2602.15909), which leaves the choice to an LLM; here every
term is written down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from agent.config import ThinkerConfig
from agent.planners.evidence import Belief, beliefs, pooled, variance_between
from agent.planners.plan import ClassState, Plan, PlanRequest
from agent.planners.shares import proportional
from agent.planners.styles import plannable, room, synthesis

HARM_ROUNDS = 2  # rounds with evidence before the Thinker may stop for harm
VAIN_ROUNDS = 3  # before it may stop because nothing was gained
SIGMAS = 2.0  # standard errors that a gain must lie below zero to be harm


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

    No class takes more than ``cap_share`` of the budget, times ``passing``, since all figures are estimates. Where
    the classes could not hold the budget so, these limits are stretched alike until they do, and are the plan;
    none takes more than its distinct draws.

    The plan is ``nothing`` once clips have done harm or nothing (:func:`stop`).
    """
    states = plannable(request)
    reason = stop(states)
    if reason:
        return Plan(planner="thinker", method="nothing", budget=0, note=reason)
    believed, needed = beliefs(states), needs(states, request, config)
    weights, most_needed = {}, max(*needed.values(), 1e-6)
    for c in states:
        # Equal needs are 1 exactly, so that rounding tells no classes apart.
        wanted = max(needed[c.label] / most_needed, 1e-6) ** config.sharpness / c.real**config.prior
        weights[c.label] = wanted * helpfulness(believed.get(c.label), config) * passing(c)
    caps = room(states, "synthesize")
    most = {c.label: max(int(config.cap_share * passing(c) * request.budget), 1) for c in states}
    shared = {name: min(cap, most[name]) for name, cap in caps.items()}
    if sum(shared.values()) >= request.budget:
        spent = proportional(weights, request.budget, shared)
    else:
        spent = proportional(most, request.budget, caps)
    reasons = {c.label: _reason(c, request, needed[c.label], believed.get(c.label)) for c in states}
    return synthesis("thinker", request, spent, reasons, config, confused=config.confused_with)


def needs(states: Sequence[ClassState], request: PlanRequest, config: ThinkerConfig) -> dict[str, float]:
    """How much each class asks for (>= 0): a sum of three terms, each in [0, 1] before its weight.

    - ``weakness · (1 − F1)``: the score that the loop is judged by.
    - ``doubt · (1 − confidence)``: among classes of equal F1, that with the smaller calibrated
      probability in its own clips is nearer to losing them.
    - ``confusion · pair`` (:func:`pair`): two classes taken for each other need clips on both sides.

    A budget that follows figures of ten clips follows noise, so each is drawn towards its mean over the classes by
    its own standard error (:func:`drawn_together`): F1 may tell nothing where confidence does. A class without
    clips in the plan split has the mean.
    """
    known = [c for c in states if c.support]
    terms = (
        (config.weakness, {c.label: (1 - c.f1, c.f1_error) for c in known}),
        (config.doubt, {c.label: (1 - c.confidence, c.confidence_error) for c in known}),
        (config.confusion, {c.label: pair(c, request) for c in known}),
    )
    asked = [(weight, drawn_together(figures)) for weight, figures in terms]
    found = {c.label: sum(weight * figures[c.label] for weight, figures in asked) for c in known}
    mean = sum(found.values()) / len(found) if found else 1.0
    return {c.label: found.get(c.label, mean) for c in states}


def drawn_together(figures: Mapping[str, tuple[float, float | None]]) -> dict[str, float]:
    """Figures with their standard errors s, drawn towards their mean (empirical Bayes).

    Each keeps the share ``τ² / (τ² + s²)`` of its distance, τ² being what the figures differ by beyond their
    errors; one without an error is exact. Where classes cannot be told apart, all have the mean.
    """
    own = {name: Belief(value, error) for name, (value, error) in figures.items() if error is not None}
    between = variance_between(list(own.values())) if own else 0.0
    mean = sum(value for value, _ in figures.values()) / max(len(figures), 1)
    return {
        name: value if error is None else mean + (value - mean) * between / (between + error**2)
        for name, (value, error) in figures.items()
    }


def pair(c: ClassState, request: PlanRequest) -> tuple[float, float]:
    """Share of the clips of ``c`` and another class that are taken for each other, of the worst pair; its error.

    The error is that of a share of as many clips, with one more counted on each side, so that it is never 0.
    """
    shares = [(0.0, c.support)]
    for other in request.classes:
        both = c.support + other.support
        if other.label != c.label and both:
            mixed = c.confusions.get(other.label, 0) + other.confusions.get(c.label, 0)
            shares += [(min(1.0, mixed / both), both)] if mixed else []
    worst, clips = max(shares)
    share = (worst * clips + 1) / (clips + 2)
    return worst, math.sqrt(share * (1 - share) / (clips + 2))


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
    """Why nothing more should be added; empty while anything may still help.

    Harm: at least two rounds of clips have been measured for the tail and for the others, and in both the pooled gain
    lies two standard errors below zero. In vain: at least three have, and no group has gained anything.
    """
    found, harm, vain = [], True, True
    for word, tail in (("tail", True), ("other", False)):
        group = [c for c in states if c.tail == tail]
        if not group:
            continue
        belief, rounds = pooled(group), max(len(c.gains) for c in group)
        if belief is None:
            return ""
        harm &= rounds >= HARM_ROUNDS and belief.gain + SIGMAS * belief.error < 0
        vain &= rounds >= VAIN_ROUNDS and belief.gain <= 0
        found.append(f"{word} classes {belief.gain:+.3f} ± {belief.error:.3f}")
    if not (harm or vain):
        return ""
    return f"clips {'do harm' if harm else 'bring nothing'}: F1 per round of " + ", ".join(found)


def _reason(c: ClassState, request: PlanRequest, need: float, belief: Belief | None) -> str:
    error = "" if c.f1_error is None else f" ± {c.f1_error:.2f}"
    doubt = "" if c.confidence_error is None else f" ± {c.confidence_error:.2f}"
    parts = [f"F1 {c.f1:.2f}{error}", f"confidence {c.confidence:.2f}{doubt}"]
    parts = parts if c.support else ["never measured"]
    if c.partner and pair(c, request)[0] > 0:
        parts.append(f"taken for {c.partner} {c.confusions[c.partner]} of {c.support} times")
    parts += [f"{c.real} real clips in train"]
    parts += [f"gain {belief.gain:+.3f} ± {belief.error:.3f}"] if belief else []
    parts += [f"{c.rejected} of {c.screened} candidates rejected"] if c.rejected else []
    return f"need {need:.2f}: " + ", ".join(parts)
