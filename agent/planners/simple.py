"""Planners: error profile + history → plan. Deterministic, independent of dict order, free of torch.

A planner sees the ``plan`` split and the training counts only, never the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from agent.config import PlannerName, ThinkerConfig
from agent.planners.plan import ClassState, Plan, PlanItem, PlanRequest, Policy, validate_plan
from training.errors import DataError


def largest_remainder(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Share ``total`` out in proportion to ``weights``; the counts sum to ``total`` exactly.

    Ties go to the name that sorts first, so that the order of the mapping never matters.

    Raises:
        DataError: no weight is positive.
    """
    names = sorted(weights)
    mass = sum(weights[name] for name in names)
    if mass <= 0:
        raise DataError("no class has a positive weight", cure="give the planner classes with clips")
    ideal = {name: total * weights[name] / mass for name in names}
    counts = {name: int(ideal[name]) for name in names}
    left = total - sum(counts.values())
    eligible = [name for name in names if weights[name] > 0]
    order = sorted(eligible, key=lambda n: (-(ideal[n] - counts[n]), n))
    for step in range(left):
        counts[order[step % len(order)]] += 1
    return counts


def capped_shares(weights: Mapping[str, float], total: int, cap: int) -> dict[str, int]:
    """As :func:`largest_remainder` with at most ``cap`` per class; what is cut goes to the others.

    The cap gives way (evenly) when all classes together cannot hold ``total`` under it.
    """
    names = sorted(name for name in weights if weights[name] > 0)
    if not names:
        raise DataError("no class has a positive weight", cure="give the planner classes with clips")
    cap = max(cap, -(-total // len(names)))
    fixed: dict[str, int] = {}
    while True:
        free = {name: weights[name] for name in names if name not in fixed}
        shares = largest_remainder(free, total - sum(fixed.values())) if free else {}
        over = [name for name, count in shares.items() if count > cap]
        if not over:
            return {**fixed, **shares}
        fixed |= dict.fromkeys(over, cap)


def level(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Water-filling: spend ``total`` so that the smallest classes rise to the same level.

    Raises:
        DataError: there are no classes.
    """
    if not counts:
        raise DataError("no class to bring up", cure="give the planner classes with clips")
    order = sorted(counts, key=lambda n: (counts[n], n))
    raised = 0
    for used in range(1, len(order) + 1):  # how many of the smallest classes rise
        top = counts[order[used]] if used < len(order) else None
        room = None if top is None else sum(top - counts[n] for n in order[:used])
        raised = used
        if room is None or room >= total:
            break
    chosen = order[:raised]
    height, rest = divmod(total + sum(counts[n] for n in chosen), raised)
    spent = {name: height - counts[name] for name in chosen}
    for name in chosen[:rest]:
        spent[name] += 1
    return spent


def plan_nothing(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Add nothing: the round's control."""
    return Plan(planner="none", method="nothing", budget=0, note="the control: nothing is added")


def plan_oversample(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Draw real clips again until the classes are as even as the budget allows."""
    have = {c.label: c.real + c.extra for c in request.ordered() if c.real > 0}
    spent = level(have, request.budget)
    return Plan(
        planner="oversample",
        method="duplicate",
        budget=request.budget,
        items=[
            PlanItem(label=n, count=k, reason=f"{have[n]} clips in train: brought to {have[n] + k}")
            for n, k in sorted(spent.items())
            if k
        ],
    )


def plan_fill(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Synthesize so that every class comes to the same count."""
    states = _plannable(request)
    have = {c.label: c.real + c.extra for c in states}
    spent = level(have, request.budget)
    reasons = {n: f"{have[n]} clips in train: brought to {have[n] + spent.get(n, 0)}" for n in have}
    return _synthesis("fill", request, spent, reasons, states, config)


def plan_thinker(request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Share the budget by need, sharper than in proportion.

    A class's need is ``weakness · (1 − f1) + doubt · (1 − confidence) + confusion · confused``
    plus ``tail`` for tail classes, times the gain that clips brought it in earlier rounds; needs are
    raised to ``sharpness`` before they are shared. No class takes more than ``cap_share`` of the budget,
    unless the classes together could not hold it then.
    """
    states = _plannable(request)
    needs = {c.label: need(c, config) for c in states}
    weights = {name: max(value, 1e-6) ** config.sharpness for name, value in needs.items()}
    spent = capped_shares(weights, request.budget, max(1, int(config.cap_share * request.budget)))
    reasons = {}
    for c in states:
        parts = [f"F1 {c.f1:.2f}", f"confidence {c.confidence:.2f}", f"confused {c.confused:.2f}"]
        parts += ["tail class"] if c.tail else []
        parts += [f"last gain {c.gains[-1]:+.2f}"] if c.gains else []
        reasons[c.label] = f"need {needs[c.label]:.2f}: " + ", ".join(parts)
    return _synthesis("thinker", request, spent, reasons, states, config)


def need(c: ClassState, config: ThinkerConfig) -> float:
    """How much a class asks for (>= 0); see :func:`plan_thinker`.

    A class without clips in the plan split has no measured figures: it counts as fully weak.
    """
    f1, confidence, confused = (c.f1, c.confidence, c.confused) if c.support else (0.0, 0.0, 0.0)
    value = config.weakness * (1 - f1) + config.doubt * (1 - confidence) + config.confusion * confused
    value += config.tail if c.tail else 0.0
    if c.gains:
        # Clips that did not help are given less of the next budget, those that did a little more.
        value *= min(1.5, max(0.5, 1.0 + config.gain * c.gains[-1]))
    return value


def _plannable(request: PlanRequest) -> list[ClassState]:
    """Classes that may be synthesized: known to generator and judge, with a real clip to lend its style."""
    states = [c for c in request.ordered() if c.label in request.plannable and c.real > 0]
    if not states:
        raise DataError("no class of this task can be synthesized", cure="use weights trained for the task")
    return states


def _synthesis(
    planner: PlannerName,
    request: PlanRequest,
    spent: Mapping[str, int],
    reasons: Mapping[str, str],
    states: Sequence[ClassState],
    config: ThinkerConfig,
) -> Plan:
    """Items with their style policy: half of a single-source class's clips borrow another source's style."""
    items = []
    for c in states:
        count = spent.get(c.label, 0)
        across = round(count * config.cross_source) if c.single_source else 0
        shares: list[tuple[Policy, int]] = [("own", count - across), ("cross-source", across)]
        for style, number in shares:
            if number:
                items.append(PlanItem(label=c.label, count=number, style=style, reason=reasons[c.label]))
    return Plan(planner=planner, method="synthesize", budget=request.budget, items=items)


Planner = Callable[[PlanRequest, ThinkerConfig], Plan]
PLANNERS: dict[PlannerName, Planner] = {
    "none": plan_nothing,
    "oversample": plan_oversample,
    "fill": plan_fill,
    "thinker": plan_thinker,
}
SYNTHESIZING: frozenset[PlannerName] = frozenset(
    {"random", "class-prior", "fill", "static-uncertainty", "thinker", "llm"}
)


def make_plan(name: PlannerName, request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Plan a round.

    Raises:
        DataError: no class can be planned for.
    """
    return validate_plan(PLANNERS[name](request, config), request)
