"""Planners: error profile + history → plan. Deterministic, independent of dict order, free of torch.

A planner sees the ``plan`` split's figures and the training counts only, never the test split.
"""

from collections.abc import Callable

from agent.config import PlannerName, ThinkerConfig
from agent.planners import simple
from agent.planners.plan import (
    POLICIES,
    ClassState,
    Count,
    Plan,
    PlanItem,
    PlanRequest,
    Policy,
    validate_plan,
)
from agent.planners.thinker import plan_thinker
from training.errors import DataError

__all__ = [
    "PLANNERS",
    "POLICIES",
    "SYNTHESIZING",
    "ClassState",
    "Count",
    "Plan",
    "PlanItem",
    "PlanRequest",
    "Planner",
    "Policy",
    "make_plan",
    "validate_plan",
]

Planner = Callable[[PlanRequest, ThinkerConfig], Plan]
PLANNERS: dict[PlannerName, Planner] = {
    "none": simple.plan_nothing,
    "oversample": simple.plan_oversample,
    "restyle": simple.plan_restyle,
    "random": simple.plan_random,
    "class-prior": simple.plan_class_prior,
    "fill": simple.plan_fill,
    "static-uncertainty": simple.plan_static_uncertainty,
    "thinker": plan_thinker,
}
SYNTHESIZING: frozenset[PlannerName] = frozenset(
    {"random", "class-prior", "fill", "static-uncertainty", "thinker", "llm"}
)


def make_plan(name: PlannerName, request: PlanRequest, config: ThinkerConfig) -> Plan:
    """Plan a round, by rule; planner ``llm`` is asked by :func:`agent.llm.plan_llm`.

    Raises:
        DataError: no class can be planned for, or the classes cannot hold the budget.
    """
    if name not in PLANNERS:
        raise DataError(f"planner {name} does not plan by rule")
    return validate_plan(PLANNERS[name](request, config), request)
