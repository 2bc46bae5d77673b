"""The Thinker: closed-form shares, shrinkage by hand, and when it stops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_requests import asked, state

from agent.config import ThinkerConfig
from agent.planners import ClassState, make_plan
from agent.planners.evidence import Belief, beliefs, class_gains, pooled, shrunk
from agent.planners.thinker import drawn_together, helpfulness, needs, pair, passing, stop
from diagnoser.predictions import Predictions
from training.errors import DataError

CONFIG = ThinkerConfig()
LOOSE = ThinkerConfig(cap_share=1.0)


def gained(label: str, *gains: float, error: float = 0.1, **values: Any) -> ClassState:
    return state(label, gains=list(gains), gain_errors=[error] * len(gains), **values)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 99), min_size=1), st.integers(1, 300))
def test_equal_needs_are_class_prior(real: dict[str, int], budget: int) -> None:
    # Whatever was added before: a class that was filled once keeps its share.
    classes = [state(name, real=count, extra=7 * count) for name, count in real.items()]
    request = asked(*classes, budget=budget)
    assert make_plan("thinker", request, LOOSE).counts == make_plan("class-prior", request, LOOSE).counts


def test_shares_follow_need_to_the_power_of_sharpness_and_the_prior() -> None:
    def counts(real: int = 10, **values: float) -> dict[str, int]:
        only_f1 = {"doubt": 0.0, "confusion": 0.0, "cap_share": 1.0}
        # Needs 0.8 and 0.4.
        classes = [state("weak", f1=0.2, real=real), state("strong", f1=0.6, real=10)]
        config = ThinkerConfig.model_validate({**only_f1, **values})
        return make_plan("thinker", asked(*classes, budget=90), config).counts

    assert counts() == {"weak": 72, "strong": 18}  # squared: 4 to 1
    assert counts(sharpness=1.0) == {"weak": 60, "strong": 30}
    assert counts(real=80) == {"weak": 30, "strong": 60}  # 4 to 1, and 1 / 80 to 1 / 10
    assert counts(real=80, prior=0.0) == {"weak": 72, "strong": 18}


def test_no_class_takes_more_than_its_share_unless_the_others_are_full() -> None:
    classes = [state("rare", real=1), state("a", real=40), state("b", real=80)]
    prior = make_plan("class-prior", asked(*classes, budget=120), CONFIG).counts
    made = make_plan("thinker", asked(*classes, budget=120), CONFIG).counts
    assert prior == {"rare": 116, "a": 3, "b": 1}
    assert made == {"rare": 60, "a": 40, "b": 20}  # the rest by the prior
    assert make_plan("thinker", asked(state("rare", real=1), budget=9), CONFIG).counts == {"rare": 9}


def test_need_adds_its_terms() -> None:
    a = state("a", f1=0.6, confidence=0.3, support=10, confusions={"b": 3})
    b = state("b", support=20, confusions={"a": 6, "c": 1})
    d = state("d", support=0, f1=1.0, confidence=1.0)
    request = asked(a, b, state("c", support=0))
    # 9 of 30 clips of the pair; as a share of 32 with one more on each side, 10 / 32.
    assert pair(a, request) == pytest.approx((9 / 30, math.sqrt(10 / 32 * 22 / 32 / 32)))
    assert pair(d, request) == (0.0, pytest.approx(0.5 / math.sqrt(2)))  # nothing is known
    found = needs([a, b, d], request, CONFIG)
    # Both are of one pair, so that the third term is the same; the others are exact where no error is given.
    assert found["a"] == pytest.approx(0.4 + 0.5 * 0.7 + 0.3 * 0.3)
    assert found["b"] == pytest.approx(0.5 + 0.5 * 0.5 + 0.3 * 0.3)
    # Never measured: the mean of those that were, whatever its figures say.
    assert found["d"] == pytest.approx((found["a"] + found["b"]) / 2)
    assert needs([d], request, CONFIG)["d"] > 0


def test_every_term_is_drawn_together_by_its_own_error() -> None:
    # F1 of few clips tells nothing apart; the probabilities of the same clips do, and the budget follows them.
    classes = [
        state(n, f1=f1, f1_error=0.3, confidence=p, confidence_error=0.02)
        for n, f1, p in (("a", 0.5, 0.2), ("b", 0.6, 0.5), ("c", 0.4, 0.8))
    ]
    found = needs(classes, asked(*classes), CONFIG)
    known = drawn_together({"a": (0.8, 0.02), "b": (0.5, 0.02), "c": (0.2, 0.02)})
    assert known["a"] > 0.79 and known["b"] == pytest.approx(0.5)
    assert [found[n] for n in "abc"] == pytest.approx([0.5 + 0.5 * known[n] for n in "abc"])
    made = make_plan("thinker", asked(*classes, budget=60), LOOSE).counts
    assert made["a"] > made["b"] > made["c"]
    # Pairs too: half of a's and b's clips are taken for each other, none of those of the other two.
    mixed = {"a": {"b": 20}, "b": {"a": 20}, "c": {}, "d": {}}
    classes = [state(n, support=40, confusions=mixed[n]) for n in mixed]
    needed = needs(classes, asked(*classes), CONFIG)
    assert needed["a"] == needed["b"] > needed["c"] + 0.1 and needed["c"] == needed["d"]


def test_needs_are_drawn_together_as_far_as_classes_cannot_be_told_apart() -> None:
    def asking(error: float | None) -> dict[str, float]:
        classes = [state(n, f1=f1, f1_error=error) for n, f1 in (("a", 0.2), ("b", 0.4), ("c", 0.9))]
        return needs(classes, asked(*classes), ThinkerConfig(doubt=0.0, confusion=0.0))

    # F1 of mean 0.5 and variance 0.13: with errors of 0.2 the classes truly differ by 0.13 - 0.04 = 0.09.
    share = 0.09 / 0.13
    assert list(asking(0.2).values()) == pytest.approx([0.5 + share * x for x in (0.3, 0.1, -0.4)])
    assert list(asking(0.001).values()) == pytest.approx([0.8, 0.6, 0.1], abs=1e-4)
    assert list(asking(None).values()) == pytest.approx([0.8, 0.6, 0.1])
    assert list(asking(0.4).values()) == pytest.approx([0.5, 0.5, 0.5])


def test_evidence_moves_the_budget() -> None:
    def count_of_a(*gains: float, error: float = 0.05) -> int:
        classes = [gained("a", *gains, error=error, tail=True, real=10), state("b", tail=False, real=10)]
        return make_plan("thinker", asked(*classes, budget=60), LOOSE).counts.get("a", 0)

    assert count_of_a(0.2) > count_of_a() == 30 > count_of_a(-0.2) == 0
    # The same gain, less sure, moves less.
    assert count_of_a() < count_of_a(0.2, error=0.4) < count_of_a(0.2)


def test_helpfulness_is_twice_the_chance_of_a_gain() -> None:
    assert helpfulness(None, CONFIG) == 1
    assert helpfulness(Belief(0.0, 0.1), CONFIG) == pytest.approx(1)
    assert helpfulness(Belief(0.1, 0.1), CONFIG) == pytest.approx(2 * 0.841345, abs=1e-5)
    assert helpfulness(Belief(-0.1, 0.1), ThinkerConfig(gain=2.0)) == pytest.approx(
        (2 * 0.158655) ** 2, abs=1e-5
    )
    assert helpfulness(Belief(-0.1, 0.1), ThinkerConfig(gain=0.0)) == 1


def test_rejected_classes_are_planned_less() -> None:
    assert passing(state("a")) == 1
    assert passing(state("a", screened=9, rejected=9)) == pytest.approx(0.1)
    classes = [state("a", real=10, screened=30, rejected=29), state("b", real=10)]
    made = make_plan("thinker", asked(*classes, budget=60), LOOSE)
    assert made.counts == {"a": 3, "b": 57}  # 2/31 to 1, and 2/31 of the budget at most
    assert make_plan("fill", asked(*classes, budget=60), LOOSE).counts == {"a": 30, "b": 30}


def test_shrinkage_by_hand() -> None:
    # Errors 0.1 (weight 100 each); gains 0.0 and 0.4: mean 0.2, Q = 100 · (0.04 + 0.04) = 8,
    # τ² = (8 − 1) / (200 − 20000 / 200) = 0.07. Weights 1 / (0.01 + 0.07) = 12.5 each: σ² = 1 / 25 = 0.04.
    classes = [gained("a", 0.0), gained("b", 0.4), state("c"), state("d", tail=True)]
    mean = pooled(classes)
    assert mean is not None
    assert (mean.gain, mean.error) == (pytest.approx(0.2), pytest.approx(0.2))
    found = beliefs(classes)
    # B = 0.07 / 0.08 = 0.875: a = 0.125 · 0.2, variance 0.875 · 0.01 + 0.125² · 0.04.
    assert found["a"].gain == pytest.approx(0.025)
    assert found["a"].error == pytest.approx(math.sqrt(0.00875 + 0.000625))
    assert found["b"].gain == pytest.approx(0.375)
    # Without a gain of its own: the mean, and both doubts.
    assert found["c"] == Belief(pytest.approx(0.2), pytest.approx(math.sqrt(0.04 + 0.07)))  # type: ignore[arg-type]
    assert "d" not in found  # the tail was never given clips


def test_classes_that_agree_share_one_gain() -> None:
    found = beliefs([gained("a", 0.1), gained("b", 0.12, 0.08)])
    # Spread below the errors: τ² = 0, everybody has the mean of three rounds, error 0.1 / √3.
    for belief in found.values():
        assert belief.gain == pytest.approx(0.1)
        assert belief.error == pytest.approx(0.1 / math.sqrt(3))
    assert shrunk(Belief(1.0, 0.1), Belief(0.0, 0.1), 0.0).gain == 0


def test_the_cap_of_a_class_shrinks_with_what_passes_the_screen() -> None:
    # Half of the budget at most, times the share that passes: what would be dropped goes to the others.
    classes = [state("both", real=1, screened=9, rejected=8), *(state(n, real=50) for n in "abc")]
    made = make_plan("thinker", asked(*classes, budget=100), CONFIG).counts
    assert made["both"] == 10
    assert (
        make_plan("thinker", asked(state("both", real=1), *classes[1:], budget=100), CONFIG).counts["both"]
        == 50
    )


@pytest.mark.parametrize(
    ("real", "rejected", "budget", "expected"),
    [
        # Of 100 candidates each: half pass, and the limits just hold; then they are stretched, and nothing jumps.
        ((800, 300, 200, 13), (50, 50, 50, 50), 240, (60, 60, 60, 60)),
        ((800, 300, 200, 13), (52, 52, 52, 52), 240, (60, 60, 60, 60)),
        ((800, 300, 200, 13), (55, 55, 55, 86), 240, (72, 73, 72, 23)),
        ((100, 5), (0, 52), 90, (60, 30)),  # a class that is rejected never gains by it
        ((100, 5), (0, 0), 91, (46, 45)),
    ],
)
def test_limits_that_cannot_hold_the_budget_are_stretched_alike(
    real: tuple[int, ...], rejected: tuple[int, ...], budget: int, expected: tuple[int, ...]
) -> None:
    classes = [
        state(name, real=count, screened=100, rejected=gone)
        for name, count, gone in zip("abcd", real, rejected, strict=False)
    ]
    made = make_plan("thinker", asked(*classes, budget=budget), CONFIG).counts
    assert made == pytest.approx(dict(zip("abcd", expected, strict=False)), abs=1)
    assert sum(made.values()) == budget


def test_stops_when_three_rounds_brought_nothing() -> None:
    def stopped(*gains: float, rest: float = -0.01) -> str:
        return stop([gained("a", *gains, tail=True), gained("b", *[rest] * len(gains))])

    assert stopped(-0.02, 0.01, -0.01).startswith("clips bring nothing: F1 per round of tail classes -0.007")
    assert stopped(-0.02, 0.01) == ""  # two rounds may be chance
    assert stopped(0.02, 0.01, -0.01) == "" == stopped(-0.02, -0.01, 0.0, rest=0.01)  # one group gains


def test_stops_when_clips_harm_everybody_and_not_before() -> None:
    harm = {"error": 0.05}
    tail, rest = gained("a", -0.2, -0.2, tail=True, **harm), gained("b", -0.3, -0.2, **harm)
    made = make_plan("thinker", asked(tail, rest), CONFIG)
    assert (made.method, made.budget, made.items) == ("nothing", 0, [])
    assert "tail classes -0.200 ± 0.035" in made.note and "other classes -0.250 ± 0.035" in made.note
    for other in (
        gained("b", -0.3, **harm),  # one round is no evidence
        gained("b", -0.3, 0.3, **harm),  # helped once
        gained("b", -0.1, -0.1, error=0.3),  # not beyond two standard errors
        state("b"),  # never tried: the budget goes there
    ):
        assert stop([tail, other]) == ""
    assert make_plan("thinker", asked(tail, state("b")), LOOSE).counts == {"b": 30}
    assert stop([tail])  # a task whose plannable classes are all tail


def test_part_of_the_clips_sound_like_the_class_it_is_taken_for() -> None:
    request = asked(state("a", confusions={"b": 4, "c": 4}), state("b"), budget=40)
    made = make_plan("thinker", request, ThinkerConfig(cap_share=1.0, confused_with=0.25))
    styles = {i.style: i.count for i in made.items if i.label == "a"}
    assert styles["confused-with"] == math.floor(0.25 * sum(styles.values()))
    assert {i.style for i in made.items if i.label == "b"} == {"own"}
    assert request.classes[0].partner == "b"  # names decide ties


def predictions(guesses: list[int], ids: str = "clip") -> Predictions:
    labels = np.array([0, 0, 0, 0, 1, 1])
    probs = np.eye(3)[guesses]
    names = [f"{ids}{i}" for i in range(6)]
    return Predictions(names, [f"s{i}" for i in range(6)], labels, probs, ("x", "y", "z"))


def test_class_gains_are_paired_and_never_surer_than_a_clip() -> None:
    before, after = predictions([0, 0, 1, 1, 1, 1]), predictions([0, 0, 0, 0, 1, 1])
    found = class_gains(after, before)
    assert set(found) == {"x", "y"}  # z has no clip
    assert found["x"][0] == pytest.approx(1 - 2 * 2 / 6, abs=1e-5)
    assert found["x"][1] > 1 / 5
    # Equal predictions: no change in any draw, and still the doubt of two clips that agree.
    assert class_gains(before, before)["y"] == (0.0, pytest.approx(math.sqrt(3 / 4) / 4, abs=1e-5))
    with pytest.raises(DataError, match="other clips"):
        class_gains(after, predictions([0] * 6, "other"))
