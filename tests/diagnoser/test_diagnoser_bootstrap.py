"""Intervals over subjects: weighted scores against scikit-learn, and coverage on simulated subjects."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as sk

from diagnoser.bootstrap import (
    binary_auroc,
    brier,
    calibration_error,
    draw_counts,
    interval,
    macro_auroc,
    percentiles,
    resample,
    reweigh,
)
from diagnoser.metrics import accuracy, auroc, ece, subject_matrices


def made(n: int = 240, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + np.eye(classes)[labels]
    probs = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2)  # with ties
    return labels, probs, [f"s:{i % 17}" for i in range(n)]


def test_weighted_scores_against_scikit_learn() -> None:
    labels, probs, _ = made()
    weights = np.random.default_rng(1).integers(0, 4, (5, len(labels))).astype(float)
    areas = macro_auroc(labels, probs)(weights)
    for row, area in zip(weights, areas, strict=True):
        each = [sk.roc_auc_score(labels == k, probs[:, k], sample_weight=row) for k in range(3)]
        assert area == pytest.approx(np.mean(each))
        one = binary_auroc(labels == 0, probs[:, 0])(row[None])[0]
        assert one == pytest.approx(sk.roc_auc_score(labels == 0, probs[:, 0], sample_weight=row))
        distance = ((probs - np.eye(3)[labels]) ** 2).sum(axis=1)
        assert brier(labels, probs)(row[None])[0] == pytest.approx(np.average(distance, weights=row))
        copied = np.repeat(np.arange(len(labels)), row.astype(int))
        assert calibration_error(labels, probs)(row[None])[0] == pytest.approx(
            ece(labels[copied], probs[copied])
        )


def test_weights_of_one_give_the_plain_scores() -> None:
    labels, probs, _ = made()
    once = np.ones((1, len(labels)))
    assert macro_auroc(labels, probs)(once)[0] == pytest.approx(auroc(labels, probs))
    assert calibration_error(labels, probs)(once)[0] == pytest.approx(ece(labels, probs))


def test_an_area_with_one_side_only_is_undefined() -> None:
    area = binary_auroc(np.array([True, False]), np.array([0.9, 0.1]))
    assert area(np.array([[1.0, 1.0]]))[0] == 1.0
    assert math.isnan(area(np.array([[2.0, 0.0]]))[0])


def test_both_ways_of_drawing_draw_the_same_subjects() -> None:
    """So that scores of clips and of confusion matrices, and of two models, pair up draw by draw."""
    labels, probs, subjects = made()
    guesses = probs.argmax(axis=1)
    hits = (guesses == labels).astype(float)
    by_clip = reweigh({"hits": lambda w: (w @ hits) / w.sum(axis=1)}, subjects, 50, seed=4)["hits"]
    by_matrix = accuracy(resample(subject_matrices(labels, guesses, subjects, 3), 50, seed=4))
    assert by_clip == pytest.approx(by_matrix)
    counts = draw_counts(17, 50, seed=4)
    assert (counts.sum(axis=1) == 17).all() and counts.max() > 1


def test_percentiles_leave_undefined_draws_out() -> None:
    assert percentiles(np.array([0.0, np.nan, 1.0]), level=1.0) == (0.0, 1.0)
    assert all(map(math.isnan, percentiles(np.array([np.nan]))))


SUBJECTS, CLIPS = 40, 8


def accuracy_world(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Subjects of accuracies Beta(3.5, 1.5), so 0.7 on average; their clips share it."""
    skill = np.repeat(rng.beta(3.5, 1.5, SUBJECTS), CLIPS)
    labels = rng.integers(0, 2, SUBJECTS * CLIPS)
    guesses = np.where(rng.random(labels.size) < skill, labels, 1 - labels)
    return labels, guesses, [f"s:{i // CLIPS}" for i in range(labels.size)]


def coverage(truth: float, draw: Callable[[np.random.Generator], tuple[float, float]], times: int) -> float:
    rng = np.random.default_rng(7)
    bounds = [draw(rng) for _ in range(times)]
    return float(np.mean([low <= truth <= high for low, high in bounds]))


def test_coverage_of_a_confusion_score() -> None:
    """A nominal 95 % interval holds the true accuracy in 90 to 98 % of simulated test sets."""

    def by_subject(rng: np.random.Generator) -> tuple[float, float]:
        labels, guesses, subjects = accuracy_world(rng)
        return interval(subject_matrices(labels, guesses, subjects, 2), accuracy, draws=300)

    def by_clip(rng: np.random.Generator) -> tuple[float, float]:
        labels, guesses, _ = accuracy_world(rng)
        clips = [f"c:{i}" for i in range(labels.size)]
        return interval(subject_matrices(labels, guesses, clips, 2), accuracy, draws=300)

    assert 0.90 <= coverage(0.7, by_subject, 400) <= 0.98
    assert coverage(0.7, by_clip, 100) < 0.90  # what drawing clips would claim


def test_coverage_of_a_score_of_clips() -> None:
    """The same for AUROC: clips of a subject share a normal offset, classes differ by a shift of 1."""
    truth = float(norm.cdf(1.0 / math.sqrt(2 * (0.6**2 + 1.0))))

    def draw(rng: np.random.Generator) -> tuple[float, float]:
        labels = rng.integers(0, 2, SUBJECTS * CLIPS)
        offset = np.repeat(rng.normal(0, 0.6, SUBJECTS), CLIPS)
        values = labels + offset + rng.normal(size=labels.size)
        subjects = [f"s:{i // CLIPS}" for i in range(labels.size)]
        area = {"area": binary_auroc(labels == 1, values)}
        return percentiles(reweigh(area, subjects, 200, seed=0)["area"])

    assert 0.90 <= coverage(truth, draw, 200) <= 0.98
