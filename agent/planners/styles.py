"""Which recordings lend a class's clips their style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from agent.config import PlannerName, ThinkerConfig
from agent.planners.plan import POLICIES, ClassState, Making, Plan, PlanItem, PlanRequest, Policy
from training.errors import DataError

# These share no pair of recordings, so that their draws add up; the class a clip is taken for may also be the
# one that lends a foreign style.
APART: tuple[Policy, ...] = ("own", "cross-source", "cross-device")


def plannable(request: PlanRequest) -> list[ClassState]:
    """Classes that may be synthesized: known to generator and judge, with a real clip to lend its style.

    Raises:
        DataError: there are none.
    """
    states = [c for c in request.ordered() if c.label in request.plannable and c.real > 0]
    if not states:
        raise DataError("no class of this task can be synthesized", cure="use weights trained for the task")
    return states


def room(states: Sequence[ClassState], method: Making) -> dict[str, float]:
    """Distinct draws of each class over the styles that share none."""
    return {c.label: sum(c.most(method, style) for style in APART) for c in states}


def split(c: ClassState, method: Making, wishes: Mapping[Policy, int]) -> dict[Policy, int]:
    """Counts per style as wished; what a style cannot hold goes to the others that share no draws.

    Raises:
        DataError: all styles together cannot hold it.
    """
    found = {style: int(min(wishes.get(style, 0), c.most(method, style))) for style in POLICIES}
    left = sum(wishes.values()) - sum(found.values())
    for style in APART:
        extra = int(min(left, c.most(method, style) - found[style]))
        found[style] += extra
        left -= extra
    if left:
        raise DataError(f"{c.label} has {left} distinct draws less than planned")
    return {style: count for style, count in found.items() if count}


def synthesis(
    planner: PlannerName,
    request: PlanRequest,
    spent: Mapping[str, int],
    reasons: Mapping[str, str],
    config: ThinkerConfig,
    confused: float = 0.0,
) -> Plan:
    """A plan of synthetic clips: a share of a single-source class's borrows another source's style.

    ``confused`` is the share, rounded down, that borrows the style of the class it is most often taken for.
    """
    items = []
    for c in plannable(request):
        count = spent.get(c.label, 0)
        across = round(count * config.cross_source) if c.single_source else 0
        partner = math.floor((count - across) * confused) if c.partner else 0
        wishes: dict[Policy, int] = {
            "own": count - across - partner,
            "cross-source": across,
            "confused-with": partner,
        }
        for style, number in split(c, "synthesize", wishes).items():
            items.append(
                PlanItem(label=c.label, count=number, style=style, pick=config.pick, reason=reasons[c.label])
            )
    return Plan(planner=planner, method="synthesize", budget=request.budget, items=items)
