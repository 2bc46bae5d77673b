"""The screen: every reason to drop a clip, and the one to keep a bad one."""

from __future__ import annotations

import numpy as np
import pytest
from agent_fakes import tone

from agent.config import ScreenSettings
from agent.screen import Candidate, Checks, ScreenReport, fingerprints, hard_check, screen

JUDGED = ("a", "b", "c")


def run(waves: list[np.ndarray], labels: str, probs: list[list[float]], **planned: int) -> ScreenReport:
    return screen(
        [Candidate(clip_id=f"{label}{i}", label=label) for i, label in enumerate(labels)],
        waves,
        fingerprints(waves),
        np.array(probs),
        JUDGED,
        {(label, None): count for label, count in planned.items()},
        ScreenSettings(),
        Checks(),
    )


def reasons(report: ScreenReport) -> list[str]:
    return [v.reason for v in report.verdicts]


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.full(16_000, np.nan), "not finite"),
        (np.zeros(16_000), "silent"),
        (np.sign(np.sin(np.arange(16_000))), "clipped"),
        (tone(300, 1)[:4000], "too short"),
    ],
)
def test_hard_checks(wave: np.ndarray, reason: str) -> None:
    found = hard_check(wave.astype(np.float32), ScreenSettings())
    assert found is not None
    assert found[0] == reason
    assert hard_check(tone(300, 1), ScreenSettings()) is None


def test_keeps_the_likeliest_and_says_why_the_others_went() -> None:
    waves = [tone(p, i) for i, p in enumerate((200, 500, 900, 1400, 300))]
    probs = [[0.5, 0.4, 0.1], [0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]
    report = run(waves, "aaaab", probs, a=2, b=1)
    assert reasons(report) == ["surplus", "kept", "kept", "off class", "kept"]
    assert report.kept == {"a": 2, "b": 1}
    assert report.generated == {"a": 4, "b": 1}
    assert report.verdicts[3].rank == 3
    assert report.short == {}


def test_duplicates_and_near_duplicates() -> None:
    first, other = tone(300, 1), tone(900, 2)
    near = first + np.random.default_rng(0).normal(0, 1e-4, first.size).astype(np.float32)
    report = run([first, other, first.copy(), near], "aaaa", [[0.9, 0.05, 0.05]] * 4, a=4)
    assert reasons(report) == ["kept", "kept", "duplicate", "near duplicate"]
    assert "a0" in report.verdicts[2].detail
    assert report.short == {"a": 2}


def test_a_class_that_the_judge_does_not_know_again_gets_nothing() -> None:
    waves = [tone(p, i) for i, p in enumerate((200, 500, 900))]
    report = run(waves, "aab", [[0.01, 0.59, 0.4], [0.04, 0.56, 0.4], [0.1, 0.8, 0.1]], a=2, b=1)
    assert reasons(report) == ["off class", "off class", "kept"]
    assert report.kept == {"a": 0, "b": 1}
    assert report.short == {"a": 2}


def test_silence_is_dropped() -> None:
    silent = np.zeros(16_000, dtype=np.float32)
    report = run([silent, tone(300, 1)], "ab", [[0.0, 0.0, 0.0], [0.1, 0.8, 0.1]], a=1, b=1)
    assert reasons(report) == ["silent", "kept"]
    assert report.kept == {"a": 0, "b": 1}
    assert report.short == {"a": 1}


def test_fingerprints_are_finite_for_anything() -> None:
    assert np.isfinite(fingerprints([np.zeros(100), np.full(3, np.inf), tone(300, 1, 2.0)])).all()
