"""The gate's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config import GateSettings
from agent.gate import GateReport, decide, recall

CLASSES = ("a", "b", "c", "d")


def opinions(labels: str, chosen: str) -> tuple[list[str], np.ndarray]:
    rows = np.full((len(chosen), 4), 0.1)
    for row, name in zip(rows, chosen, strict=True):
        if name == "-":
            row[:] = 0  # silence: nothing to judge
        else:
            row[CLASSES.index(name)] = 0.7
    return list(labels), rows


def verdict(real: tuple[str, str], made: tuple[str, str], tail: str = "d", **settings: float) -> GateReport:
    return decide(
        recall(*opinions(*real), CLASSES, tail),
        recall(*opinions(*made), CLASSES, tail),
        GateSettings(**settings),  # type: ignore[arg-type]
        tail,
        judge_classes=4,
    )


def test_recall_per_class_macro_and_tail() -> None:
    found = recall(*opinions("aabbdd", "aabadc"), CLASSES, ["d"])
    assert found.per_class == {"a": 1.0, "b": 0.5, "d": 0.5}
    assert found.clips == {"a": 2, "b": 2, "d": 2}
    assert found.macro == pytest.approx(2 / 3)
    assert found.tail == 0.5


def test_opens_at_the_ratio_and_not_below() -> None:
    real = ("aaaaadddddbbbbb", "aaaaadddddbbbbb")
    assert verdict(real, ("aaaaadddddbbbbb", "aaabbdddccbbbaa")).open  # 3 of 5 in every class: 0.6
    assert not verdict(real, ("aaaaadddddbbbbb", "aaabbdddccbbaaa")).open  # b falls to 2 of 5


def test_a_good_mean_does_not_make_up_for_the_tail() -> None:
    report = verdict(("aabbdd", "aabbdd"), ("aabbdd", "aabbac"))
    assert report.macro_ratio == pytest.approx(2 / 3)
    assert report.tail_ratio == 0
    assert not report.open


def test_silent_clips_are_missed_whatever_their_class() -> None:
    assert recall(*opinions("aab", "-ab"), CLASSES, []).per_class["a"] == 0.5


def test_a_judge_at_chance_cannot_open_it() -> None:
    report = verdict(("aabbccdd", "aaaaaaaa"), ("aabbccdd", "aaaaaaaa"))
    assert not report.open
    assert "cannot tell" in report.reason


def test_a_judge_deaf_to_the_tail_cannot_open_it() -> None:
    report = verdict(("aabbdd", "aabbaa"), ("aabbdd", "aabbdd"))
    assert not report.open
    assert "tail" in report.reason


def test_a_class_without_real_clips_keeps_the_gate_closed() -> None:
    report = verdict(("aabb", "aabb"), ("aacc", "aacc"))
    assert not report.open
    assert "no real clip of c" in report.reason


def test_real_classes_that_were_not_generated_do_not_count() -> None:
    report = verdict(("aabb", "aacc"), ("aa", "aa"))
    assert report.real is not None
    assert report.real.per_class == {"a": 1.0}
    assert report.open


def test_ratio_zero_switches_it_off() -> None:
    assert verdict(("aabbdd", "bbaabb"), ("aabbdd", "bbaabb"), ratio=0.0).open
    assert verdict(("aabb", "aabb"), ("aacc", "aacc"), ratio=0.0).open  # nor is there a real clip of c
