"""The controls: planners that look at counts or at nothing, never at what earlier rounds brought."""

from __future__ import annotations

import random

from agent.config import ThinkerConfig
from agent.planners.plan import ClassState, Plan, PlanItem, PlanRequest, Policy
from agent.planners.shares import proportional, water_fill
from agent.planners.styles import plannable, room, split, synthesis


def plan_nothing(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Add nothing: the round's control."""
    return Plan(planner="none", method="nothing", budget=0, note="the control: nothing is added")


def plan_oversample(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Draw real clips again until the classes are as even as the budget allows; repeats have no limit."""
    have = {c.label: c.real + c.extra for c in request.ordered() if c.real > 0}
    spent = water_fill(have, request.budget, dict.fromkeys(have, float("inf")))
    items = [PlanItem(label=n, count=k, reason=_brought(have[n], k)) for n, k in spent.items()]
    return Plan(planner="oversample", method="duplicate", budget=request.budget, items=items)


def plan_restyle(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """As ``oversample``, but every repeat sounds as if another device had recorded it elsewhere.

    Styles come from devices or sources that lack the class where there are any: only they can break the
    tie between class and place.
    """
    states = [c for c in request.ordered() if c.real > 0]
    have = {c.label: c.real + c.extra for c in states}
    spent = water_fill(have, request.budget, room(states, "restyle"))
    items = []
    for c in states:
        if c.label in spent:
            count = spent[c.label]
            styles = split(c, "restyle", {_foreign(c): count})
            items += [
                PlanItem(label=c.label, count=number, style=style, reason=_brought(have[c.label], count))
                for style, number in styles.items()
            ]
    return Plan(planner="restyle", method="restyle", budget=request.budget, items=items)


def _foreign(c: ClassState) -> Policy:
    order: tuple[Policy, ...] = ("cross-source", "cross-device", "own")
    return next((style for style in order if c.most("restyle", style) > 0), "own")


def plan_random(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Every clip is of a class drawn at random, all alike; from the run's seed and the round alone."""
    states = plannable(request)
    caps = room(states, "synthesize")
    # Checks that the classes hold the budget, before any is drawn.
    proportional(dict.fromkeys(caps, 1.0), request.budget, caps)
    draw = random.Random(f"{request.seed}/random/{request.round}")  # noqa: S311  (no secret)
    spent = dict.fromkeys(caps, 0)
    for _ in range(request.budget):
        spent[draw.choice([name for name in spent if spent[name] + 1 <= caps[name]])] += 1
    return synthesis("random", request, spent, dict.fromkeys(spent, "drawn at random"), config)


def plan_class_prior(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """The rarer in real training clips, the more: shares are 1 / count, the same in every round."""
    states = plannable(request)
    weights = {c.label: 1 / c.real for c in states}
    spent = proportional(weights, request.budget, room(states, "synthesize"))
    reasons = {c.label: f"{c.real} real clips in train" for c in states}
    return synthesis("class-prior", request, spent, reasons, config)


def plan_fill(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Synthesize so that every class comes to the same count."""
    states = plannable(request)
    have = {c.label: c.real + c.extra for c in states}
    spent = water_fill(have, request.budget, room(states, "synthesize"))
    reasons = {n: _brought(have[n], spent.get(n, 0)) for n in have}
    return synthesis("fill", request, spent, reasons, config)


def plan_static_uncertainty(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Shares are 1 − confidence of the diagnoser before anything was added, the same in every round.

    A class without clips in the plan split was never measured: nothing is known of it, so it counts fully.
    """
    states = plannable(request)
    doubts = {}
    for c in states:
        first = c.confidence if c.first_confidence is None else c.first_confidence
        doubts[c.label] = 1 - first if c.support else 1.0
    if not any(doubts.values()):
        doubts = dict.fromkeys(doubts, 1.0)
    spent = proportional(
        {n: max(d, 1e-6) for n, d in doubts.items()}, request.budget, room(states, "synthesize")
    )
    reasons = {n: f"doubt {d:.2f} in round 0" for n, d in doubts.items()}
    return synthesis("static-uncertainty", request, spent, reasons, config)


def _brought(have: int, more: int) -> str:
    return f"{have} clips in train: brought to {have + more}"
