"""Intervals of a comparison: closed-form cases, what is paired with what, and coverage on drawn data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.compare.statistics import (
    Predicted,
    check_pairs,
    difference,
    drawn,
    spread,
    student,
    subject_interval,
)
from diagnoser.predictions import Predictions
from training.errors import DataError

CLASSES = ("normal", "crackle", "wheeze", "both")


def said(labels: np.ndarray, guesses: np.ndarray, clips_each: int = 1) -> Predictions:
    ids = [f"a:{i}" for i in range(len(labels))]
    subjects = [f"a:{i // clips_each:03d}" for i in range(len(labels))]
    return Predictions(ids, subjects, labels, np.eye(4, dtype=np.float32)[guesses], CLASSES)


def right_for(share: float, subjects: int = 100) -> Predictions:
    """One clip each; the first ``share`` of the subjects are given their class."""
    labels = np.arange(subjects) % 2
    wrong = np.arange(subjects) >= share * subjects
    return said(labels, np.where(wrong, 1 - labels, labels))


def test_student_by_hand() -> None:
    low, high = student([1.0, 2.0, 3.0]) or (0.0, 0.0)
    reach = 4.30265 / math.sqrt(3)  # t at 2 degrees of freedom, standard deviation 1
    assert (low, high) == pytest.approx((2 - reach, 2 + reach), abs=1e-4)
    assert student([1.0]) is None
    assert student([0.5, 0.5]) == (0.5, 0.5)


def test_student_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = sum(low <= 0.03 <= high for low, high in (student(rng.normal(0.03, 0.02, 5)) for _ in range(600)))  # type: ignore[misc]
    assert 0.925 < hits / 600 < 0.975


def test_spread_is_that_of_a_sample() -> None:
    assert spread([1.0, 2.0, 3.0]) == {"values": [1.0, 2.0, 3.0], "mean": 2.0, "std": 1.0}
    assert spread([1.0])["std"] is None
    assert spread([1.0, None]) == {"values": [1.0, None], "mean": None, "std": None}


def test_differences_are_paired_by_seed() -> None:
    # Seeds differ far more than rows do: only pairs show that every seed gained 0.01.
    found = difference([0.31, 0.71, 0.51], [0.30, 0.70, 0.50], [0.0, 0.02])
    assert found["values"] == pytest.approx([0.01] * 3)
    assert found["over_seeds"] == pytest.approx([0.01, 0.01])
    assert found["over_subjects"] == [0.0, 0.02]
    assert difference([0.3], [0.2], [0.0, 0.1])["over_seeds"] is None
    assert difference([0.3, None], [0.2, 0.1], [None, None])["over_subjects"] is None


def predicted(parts: list[Predictions], draw_seeds: list[int]) -> Predicted:
    return Predicted(parts, [["both"]] * len(parts), "icbhi4", draw_seeds)


def accuracy_interval(row: Predicted, reference: Predicted) -> list[float]:
    return subject_interval(row.distributions(4000), reference.distributions(4000), "accuracy")  # type: ignore[return-value]


def test_subject_interval_by_hand() -> None:
    """20 of 100 subjects gain: the difference is binomial, 0.2 ± 1.96 √(0.2 · 0.8 / 100)."""
    row, reference = predicted([right_for(0.7)], [0]), predicted([right_for(0.5)], [0])
    low, high = accuracy_interval(row, reference)
    reach = 1.96 * math.sqrt(0.2 * 0.8 / 100)
    assert (low, high) == pytest.approx((0.2 - reach, 0.2 + reach), abs=0.012)


def test_seeds_of_one_corpus_share_their_subjects_and_others_do_not() -> None:
    rows, references = [right_for(0.7)] * 4, [right_for(0.5)] * 4
    alone = accuracy_interval(predicted(rows[:1], [0]), predicted(references[:1], [0]))
    shared = accuracy_interval(predicted(rows, [0] * 4), predicted(references, [0] * 4))
    assert shared == alone  # four trainings that say the same of the same subjects teach nothing more
    low, high = accuracy_interval(predicted(rows, [0, 1, 2, 3]), predicted(references, [0, 1, 2, 3]))
    assert high - low == pytest.approx((alone[1] - alone[0]) / 2, rel=0.08)  # four times the subjects


def test_subject_interval_covers_as_often_as_it_says() -> None:
    """Subjects of three clips, two rows that gain and lose clips by chance; the true difference is 0.1."""
    rng, hits, count = np.random.default_rng(1), 0, 200
    for _ in range(count):
        hard = np.repeat(rng.uniform(-0.3, 0.3, 60), 3)  # what makes a subject hard is common to both rows
        labels = rng.integers(0, 4, 180)
        pair = []
        for skill in (0.6, 0.5):
            right = rng.uniform(size=180) < skill + hard
            pair.append(said(labels, np.where(right, labels, (labels + 1) % 4), clips_each=3))
        drawn_pair = [drawn(one, [], "icbhi4", 200, 7) for one in pair]
        low, high = subject_interval(drawn_pair[:1], drawn_pair[1:], "accuracy")
        hits += low <= 0.1 <= high
    assert 0.90 < hits / count < 0.985


def test_scores_of_sounds_have_sp_se_and_score() -> None:
    found = drawn(right_for(0.75), ["crackle"], "icbhi4", 10, 0)
    assert list(found) == ["macro_f1", "tail_macro_f1", "accuracy", "sp", "se", "score"]
    assert found["accuracy"][0] == 0.75
    assert found["score"][0] == pytest.approx((found["sp"][0] + found["se"][0]) / 2)


def test_other_clips_are_not_paired() -> None:
    one, other = right_for(0.5), right_for(0.5, subjects=98)
    with pytest.raises(DataError, match="other clips"):
        check_pairs(predicted([one], [0]), predicted([other], [0]))
