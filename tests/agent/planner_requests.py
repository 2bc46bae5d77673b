"""Requests of planners, for property tests and by hand."""

from __future__ import annotations

import random
from typing import Any, Literal

from hypothesis import strategies as st

from agent.planners import POLICIES, ClassState, PlanRequest
from agent.planners.styles import room

METHODS: tuple[Literal["restyle", "synthesize"], ...] = ("restyle", "synthesize")
share = st.floats(0, 1, allow_nan=False)


def state(label: str, **values: Any) -> ClassState:
    base = {"support": 10, "f1": 0.5, "confidence": 0.5, "confused": 0.5, "real": 20}
    return ClassState(label=label, **{**base, **values})


def asked(*classes: ClassState, budget: int = 30, **values: Any) -> PlanRequest:
    return PlanRequest(
        **{"budget": budget, "classes": list(classes), "plannable": [c.label for c in classes], **values}
    )


def plan_requests(limited: bool = False) -> st.SearchStrategy[PlanRequest]:
    """Any request that can be met; ``limited`` gives every class and style a number of draws."""
    # One draw a request: hypothesis takes seconds for the hundred that a request is made of.
    return st.integers(0, 2**32).map(lambda seed: any_request(seed, limited))


def any_request(seed: int, limited: bool) -> PlanRequest:
    rng = random.Random(seed)
    labels = rng.sample("abcdefgh", rng.randint(1, 8))
    shares = (0.0, 1.0, 0.5, *(rng.random() for _ in range(5)))
    classes = []
    for name in labels:
        gains = [rng.uniform(-1, 1) for _ in range(rng.randint(0, 3))]
        screened = rng.randint(0, 40)
        others = [other for other in labels if other != name]
        classes.append(
            ClassState(
                label=name,
                support=rng.choice((0, 1, rng.randint(2, 40))),
                f1=rng.choice(shares),
                f1_error=rng.choice((None, 0.01, rng.uniform(0.05, 0.5))),
                recall=rng.choice(shares),
                confidence=rng.choice(shares),
                confidence_error=rng.choice((None, 0.01, rng.uniform(0.05, 0.5))),
                first_confidence=rng.choice((None, *shares)),
                confused=rng.choice(shares),
                confusions={other: rng.randint(1, 9) for other in others if rng.random() < 0.3},
                real=rng.choice((1, 20, rng.randint(1, 300))),
                extra=rng.randint(0, 50),
                tail=rng.random() < 0.5,
                single_source=rng.random() < 0.5,
                gains=gains,
                gain_errors=[rng.uniform(0.01, 0.5) for _ in gains],
                screened=screened,
                rejected=rng.randint(0, screened),
                draws={m: {s: rng.choice((0, rng.randint(1, 30))) for s in POLICIES} for m in METHODS}
                if limited
                else {},
            )
        )
    plannable = rng.sample(labels, rng.randint(1, len(labels)))
    most = 500
    if limited:
        made = sum(room([c for c in classes if c.label in plannable], "synthesize").values())
        most = max(1, int(min(made, sum(room(classes, "restyle").values()))))
    return PlanRequest(
        budget=rng.choice((1, most, rng.randint(1, most))),
        classes=classes,
        plannable=plannable,
        seed=rng.randint(0, 9),
        round=rng.randint(1, 4),
    )
