"""Planners: exact budgets, caps, independence of order, and what each of them stands for."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planner_requests import asked, plan_requests, share, state

from agent.config import ThinkerConfig
from agent.planners import PLANNERS, ClassState, Plan, PlanItem, PlanRequest, make_plan, validate_plan
from agent.planners.shares import largest_remainder, proportional, water_fill
from agent.planners.styles import room
from training.errors import DataError

CONFIG = ThinkerConfig()
ENDLESS = float("inf")


@settings(max_examples=50, deadline=None)
@given(plan_requests(), st.randoms())
def test_every_plan_spends_its_budget_whatever_the_order(request: PlanRequest, rng: random.Random) -> None:
    shuffled = [
        c.model_copy(update={"confusions": dict(reversed(c.confusions.items()))}) for c in request.classes
    ]
    rng.shuffle(shuffled)
    other = request.model_copy(update={"classes": shuffled, "plannable": request.plannable[::-1]})
    for name in PLANNERS:
        made = make_plan(name, request, CONFIG)
        assert sum(made.counts.values()) == (0 if made.method == "nothing" else request.budget)
        assert made == make_plan(name, other, CONFIG)
        if made.method == "synthesize":
            assert set(made.counts) <= set(request.plannable)
        if made.method == "nothing":
            assert name in ("none", "thinker")


@settings(max_examples=60, deadline=None)
@given(plan_requests(limited=True))
def test_no_plan_draws_more_than_there_is(request: PlanRequest) -> None:
    states = {c.label: c for c in request.classes}
    assume(sum(room([states[n] for n in request.plannable], "synthesize").values()) >= request.budget)
    assume(sum(room(request.classes, "restyle").values()) >= request.budget)
    for name in PLANNERS:
        made = make_plan(name, request, CONFIG)
        assert sum(made.counts.values()) == (0 if made.method == "nothing" else request.budget)
        for item in made.items:
            assert item.count <= states[item.label].most(made.method, item.style)


def test_a_budget_beyond_all_draws_is_refused_with_what_there_is() -> None:
    few = state("a", draws={"synthesize": {"own": 3}, "restyle": {"own": 2}})
    for name in ("restyle", "random", "class-prior", "fill", "static-uncertainty", "thinker"):
        with pytest.raises(DataError, match="distinct draws together"):
            make_plan(name, asked(few, budget=4), CONFIG)
    # Duplicates are no draws: repeating is what this control does.
    assert make_plan("oversample", asked(few, budget=40), CONFIG).counts == {"a": 40}


@settings(max_examples=50, deadline=None)
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


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.floats(0.01, 9), st.integers(0, 80)), min_size=1),
    st.integers(1, 300),
)
def test_caps_hold_and_what_is_cut_goes_to_the_others(
    given: dict[str, tuple[float, int]], total: int
) -> None:
    weights, caps = ({n: pair[i] for n, pair in given.items()} for i in (0, 1))
    if sum(caps.values()) < total:
        with pytest.raises(DataError, match="distinct draws"):
            proportional(weights, total, caps)
        return
    counts = proportional(weights, total, caps)
    assert sum(counts.values()) == total
    assert all(counts[n] <= caps[n] for n in counts)
    # Whoever has room left got at least its share of the whole.
    mass = sum(weights.values())
    assert all(counts[n] == caps[n] or counts[n] > total * weights[n] / mass - 1 for n in counts)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 100), min_size=1), st.integers(1, 300))
def test_equal_targets_raise_the_smallest_first(have: dict[str, int], total: int) -> None:
    spent = water_fill(have, total, dict.fromkeys(have, ENDLESS))
    assert sum(spent.values()) == total
    after = {name: count + spent.get(name, 0) for name, count in have.items()}
    # Nobody who was given a clip stands more than one above anybody else.
    assert max(after[name] for name in spent) - min(after.values()) <= 1


def test_random_draws_all_classes_alike_from_seed_and_round() -> None:
    classes = [state(name, real=real) for name, real in (("a", 1), ("b", 100), ("c", 10))]
    made = make_plan("random", asked(*classes, budget=3000), CONFIG)
    # Each binomial(3000, 1/3): standard deviation 26.
    assert all(abs(count - 1000) < 130 for count in made.counts.values())
    assert made == make_plan("random", asked(*classes, budget=3000), CONFIG)
    for other in ({"seed": 1}, {"round": 2}):
        assert made != make_plan("random", asked(*classes, budget=3000, **other), CONFIG)


def test_class_prior_is_inverse_to_the_real_counts_whatever_was_added() -> None:
    for extra in (0, 50):
        classes = [state("a", real=10, extra=extra), state("b", real=20), state("c", real=20)]
        assert make_plan("class-prior", asked(*classes, budget=100), CONFIG).counts == {
            "a": 50,
            "b": 25,
            "c": 25,
        }


def test_static_uncertainty_keeps_the_shares_of_round_0() -> None:
    first = [state("a", confidence=0.25), state("b", confidence=0.75)]
    made = make_plan("static-uncertainty", asked(*first, budget=100), CONFIG)
    assert made.counts == {"a": 75, "b": 25}
    later = [
        state("a", confidence=0.9, first_confidence=0.25, extra=75),
        state("b", confidence=0.1, first_confidence=0.75),
    ]
    assert make_plan("static-uncertainty", asked(*later, budget=100), CONFIG).counts == made.counts
    unmeasured = [state("a", support=0, confidence=1.0), state("b", confidence=0.5)]
    assert make_plan("static-uncertainty", asked(*unmeasured, budget=90), CONFIG).counts == {"a": 60, "b": 30}


def test_restyle_counts_as_oversample_and_prefers_foreign_styles() -> None:
    draws = {"restyle": {"own": 50, "cross-device": 40, "cross-source": 4}}
    classes = [state("a", real=4, draws=draws), state("b", real=9, draws={"restyle": {"own": 50}})]
    made = make_plan("restyle", asked(*classes, budget=9, plannable=[]), CONFIG)
    assert made.method == "restyle"
    assert made.counts == make_plan("oversample", asked(*classes, budget=9), CONFIG).counts
    assert [(i.label, i.style, i.count) for i in made.items] == [
        ("a", "own", 3), ("a", "cross-source", 4), ("b", "own", 2),
    ]  # fmt: skip


def test_single_source_classes_borrow_style_and_full_styles_pass_clips_on() -> None:
    made = make_plan("fill", asked(state("a", single_source=True), budget=10), CONFIG)
    assert [(i.style, i.count) for i in made.items] == [("own", 5), ("cross-source", 5)]
    draws = {"synthesize": {"own": 1, "cross-source": 6, "cross-device": 9}}
    made = make_plan("fill", asked(state("a", single_source=True, draws=draws), budget=10), CONFIG)
    assert [(i.style, i.count) for i in made.items] == [("own", 1), ("cross-source", 6), ("cross-device", 3)]


def test_pick_goes_to_every_synthesizing_planner_and_to_no_other() -> None:
    for name in PLANNERS:
        made = make_plan(name, asked(state("a")), ThinkerConfig(pick="hard"))
        assert all(item.pick == ("hard" if made.method == "synthesize" else None) for item in made.items)


def test_oversample_never_plans_a_class_without_clips() -> None:
    assert make_plan("oversample", asked(state("a", real=0), state("b"), budget=9), CONFIG).counts == {"b": 9}


def test_a_plan_that_misses_its_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="not to the budget"):
        Plan(planner="fill", method="synthesize", budget=3, items=[PlanItem(label="a", count=2, reason="x")])


def test_nothing_plannable_is_an_error() -> None:
    with pytest.raises(DataError, match="no class"):
        make_plan("thinker", asked(state("a"), plannable=[]), CONFIG)


def planned(*items: tuple, method: str = "synthesize") -> Plan:
    made = [PlanItem(label=n, count=k, style=s, reason="x", **more) for n, k, s, more in items]
    budget = sum(item.count for item in made)
    return Plan(planner="thinker", method=method, budget=budget, items=made)  # type: ignore[arg-type]


def test_the_check_names_every_fault() -> None:
    limits = {"synthesize": {"own": 4, "cross-source": 9}}
    request = asked(state("a", draws=limits), state("b"), state("c", real=0), budget=9, plannable=["a", "c"])
    fine = planned(("a", 4, "own", {}), ("a", 5, "cross-source", {}))
    assert validate_plan(fine, request) is fine
    bad = planned(
        ("a", 3, "own", {}), ("a", 2, "own", {"pick": "hard"}), ("a", 1, "confused-with", {}),
        ("b", 1, "own", {}), ("c", 1, "own", {}), ("ghost", 2, "own", {}),
    )  # fmt: skip
    with pytest.raises(DataError) as found:
        validate_plan(bad, request)
    for fault in (
        "it has 10 clips, the budget is 9", "no class 'ghost'", "b cannot be synthesized", "c has no real clip",
        "no recording lends a the style confused-with", "a has 4 distinct draws in style own, 5 are planned",
    ):  # fmt: skip
        assert fault in str(found.value)
    with pytest.raises(DataError, match="no style and no pick"):
        validate_plan(planned(("b", 9, "own", {"pick": "easy"}), method="duplicate"), request)
    assert validate_plan(Plan(planner="llm", method="nothing", budget=0), request)


def test_gains_need_their_errors() -> None:
    with pytest.raises(ValueError, match="standard error"):
        ClassState(label="a", support=1, f1=0, confidence=0, confused=0, real=1, gains=[0.1])
