"""Planners: error profile + history → plan. Deterministic, independent of dict order, free of torch."""

from agent.planners.plan import ClassState, Plan, PlanItem, PlanRequest, Policy, validate_plan
from agent.planners.simple import (
    PLANNERS,
    SYNTHESIZING,
    capped_shares,
    largest_remainder,
    level,
    make_plan,
    need,
)

__all__ = [
    "PLANNERS",
    "SYNTHESIZING",
    "ClassState",
    "Plan",
    "PlanItem",
    "PlanRequest",
    "Policy",
    "capped_shares",
    "largest_remainder",
    "level",
    "make_plan",
    "need",
    "validate_plan",
]
