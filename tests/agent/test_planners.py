"""Planners: exact budgets, caps, independence of order."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import ThinkerConfig
from agent.planners import (
    PLANNERS,
    ClassState,
    Plan,
    PlanItem,
    PlanRequest,
    capped_shares,
    largest_remainder,
    level,
    make_plan,
    need,
)
from training.errors import DataError

share = st.floats(0, 1, allow_nan=False)


@st.composite
def plan_requests(draw: st.DrawFn) -> PlanRequest:
    labels = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True))
    classes = [
        ClassState(
            label=name,
            support=draw(st.integers(0, 40)),
            f1=draw(share),
            confidence=draw(share),
            confused=draw(share),
            real=draw(st.integers(1, 300)),
            extra=draw(st.integers(0, 50)),
            tail=draw(st.booleans()),
            single_source=draw(st.booleans()),
            gains=(gains := draw(st.lists(st.floats(-1, 1), max_size=3))),
            gain_errors=[0.1] * len(gains),
        )
        for name in labels
    ]
    plannable = draw(st.lists(st.sampled_from(labels), min_size=1, unique=True))
    return PlanRequest(budget=draw(st.integers(1, 500)), classes=classes, plannable=plannable)


@settings(max_examples=60, deadline=None)
@given(plan_requests(), st.randoms())
def test_every_plan_spends_its_budget_whatever_the_order(request: PlanRequest, rng: random.Random) -> None:
    shuffled = list(request.classes)
    rng.shuffle(shuffled)
    other = request.model_copy(update={"classes": shuffled, "plannable": request.plannable[::-1]})
    for name in PLANNERS:
        made = make_plan(name, request, ThinkerConfig())
        assert sum(made.counts.values()) == (0 if name == "none" else request.budget)
        assert made == make_plan(name, other, ThinkerConfig())
        if made.method == "synthesize":
            assert set(made.counts) <= set(request.plannable)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), share, min_size=1), st.integers(0, 400))
def test_largest_remainder_is_exact_and_within_one(weights: dict[str, float], total: int) -> None:
    mass = sum(weights.values())
    if mass == 0:
        with pytest.raises(DataError):
            largest_remainder(weights, total)
        return
    counts = largest_remainder(weights, total)
    assert sum(counts.values()) == total
    assert all(abs(counts[n] - total * w / mass) < 1 + 1e-6 for n, w in weights.items())
    assert counts == largest_remainder(dict(reversed(weights.items())), total)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 9), min_size=1),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_caps_hold_unless_they_cannot(weights: dict[str, float], total: int, cap: int) -> None:
    counts = capped_shares(weights, total, cap)
    assert sum(counts.values()) == total
    assert max(counts.values()) <= max(cap, -(-total // len(weights)))


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 100), min_size=1), st.integers(1, 300))
def test_level_raises_the_smallest_first(have: dict[str, int], total: int) -> None:
    spent = level(have, total)
    assert sum(spent.values()) == total
    after = {name: count + spent.get(name, 0) for name, count in have.items()}
    raised = [after[name] for name, count in spent.items() if count]
    # Nobody who was given a clip stands more than one above anybody else.
    assert max(raised) - min(after.values()) <= 1


def state(label: str, **values: object) -> ClassState:
    base = {"support": 10, "f1": 0.5, "confidence": 0.5, "confused": 0.5, "real": 20}
    return ClassState(label=label, **{**base, **values})  # type: ignore[arg-type]


def test_thinker_is_sharper_than_in_proportion_and_prefers_the_weak() -> None:
    weak, strong = state("weak", f1=0.1), state("strong", f1=0.9)
    made = make_plan(
        "thinker",
        PlanRequest(budget=100, classes=[strong, weak], plannable=["weak", "strong"]),
        ThinkerConfig(cap_share=1.0),
    )
    flat = need(weak, ThinkerConfig()) / (need(weak, ThinkerConfig()) + need(strong, ThinkerConfig()))
    assert made.counts["weak"] > 100 * flat + 5


def test_thinker_listens_to_measured_gains() -> None:
    config = ThinkerConfig()
    assert (
        need(state("a", gains=[0.2], gain_errors=[0.1]), config)
        > need(state("a"), config)
        > need(state("a", gains=[-0.2], gain_errors=[0.1]), config)
    )


def test_an_unmeasured_class_counts_as_fully_weak() -> None:
    assert need(
        state("a", support=0, f1=1.0, confidence=1.0, confused=0.0), ThinkerConfig()
    ) == pytest.approx(1.5)


def test_single_source_classes_borrow_style() -> None:
    made = make_plan(
        "fill",
        PlanRequest(budget=10, classes=[state("a", single_source=True)], plannable=["a"]),
        ThinkerConfig(),
    )
    assert [(i.style, i.count) for i in made.items] == [("own", 5), ("cross-source", 5)]


def test_oversample_never_plans_a_class_without_clips() -> None:
    made = make_plan(
        "oversample", PlanRequest(budget=9, classes=[state("a", real=0), state("b")]), ThinkerConfig()
    )
    assert made.counts == {"b": 9}


def test_a_plan_that_misses_its_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="not to the budget"):
        Plan(planner="fill", method="synthesize", budget=3, items=[PlanItem(label="a", count=2, reason="x")])


def test_nothing_plannable_is_an_error() -> None:
    with pytest.raises(DataError, match="no class"):
        make_plan("thinker", PlanRequest(budget=3, classes=[state("a")], plannable=[]), ThinkerConfig())
