"""Intervals by drawing subjects with replacement. NumPy only.

Clips of one subject are alike, so drawing clips would give intervals that are far too narrow. All scores
of one call share their draws: differences between models on the same subjects can be taken draw by draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diagnoser.metrics import BINS, bin_of, ratio, subject_matrices
from training.errors import DataError

if TYPE_CHECKING:
    from diagnoser.predictions import Predictions

CHUNK = 4_000_000  # weights held at once

Weighted = Callable[[np.ndarray], np.ndarray]
"""A score of weighted clips: ``(W, N)`` weights to ``(W,)`` values, NaN where undefined."""


def draw_counts(subjects: int, draws: int, seed: int) -> np.ndarray:
    """How often each subject is drawn: ``(draws, S)``, rows sum to S."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(subjects, np.full(subjects, 1.0 / subjects), size=draws)


def paired_matrices(
    after: Predictions, before: Predictions, draws: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Confusion matrices of two diagnosers on the same clips, in this order.

    Returns:
        Of all clips, ``(C, C)`` each; with the subjects drawn with replacement, ``(draws, C, C)`` each. A draw
        takes the same subjects for both, so what makes a subject hard for both cancels in differences.

    Raises:
        DataError: the two are not of the same clips.
    """
    if after.clip_ids != before.clip_ids or after.classes != before.classes:
        raise DataError("predictions of other clips cannot be compared")
    pair = [subject_matrices(p.labels, p.guesses, p.subject_ids, len(p.classes)) for p in (after, before)]
    return [own.sum(axis=0) for own in pair], [resample(own, draws, seed) for own in pair]


def resample(matrices: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Confusion matrices ``(draws, C, C)`` of test sets with the subjects drawn with replacement."""
    count = len(matrices)
    # One matrix product for all draws.
    times = draw_counts(count, draws, seed).astype(np.float64)
    flat = times @ matrices.reshape(count, -1).astype(np.float64)
    return flat.reshape(draws, *matrices.shape[1:])


def reweigh(
    scores: Mapping[str, Weighted], subjects: Sequence[str], draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Values ``(draws,)`` of scores of clips, the draws those of :func:`resample`."""
    names, place = np.unique(np.asarray(subjects, dtype=np.str_), return_inverse=True)
    times = draw_counts(len(names), draws, seed)
    step = max(1, CHUNK // max(1, len(place)))
    found: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    for first in range(0, draws, step):
        weights = times[first : first + step, place].astype(float)
        for name, score in scores.items():
            found[name].append(score(weights))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def percentiles(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap values; undefined draws do not count, NaN where none is left."""
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval(
    matrices: np.ndarray,
    score: Callable[[np.ndarray], np.ndarray],
    *,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Bootstrap percentile interval of a score over subjects.

    Args:
        matrices: confusion counts per subject ``(S, C, C)``.
        score: takes ``(draws, C, C)``, gives ``(draws,)``.
        draws: bootstrap samples.
        seed: of the draws.
        level: coverage.
    """
    return percentiles(score(resample(matrices, draws, seed)), level)


def binary_auroc(positive: np.ndarray, values: np.ndarray) -> Weighted:
    """Area under the ROC curve of ``values (N,)`` for ``positive (N,)``; ties count half."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    side = positive[order]

    def area(weights: np.ndarray) -> np.ndarray:
        inside = weights[:, order]
        ones = np.add.reduceat(inside * side, starts, axis=1)
        zeros = np.add.reduceat(inside * ~side, starts, axis=1)
        below = np.cumsum(zeros, axis=1) - zeros / 2
        return ratio((ones * below).sum(axis=1), ones.sum(axis=1) * zeros.sum(axis=1))

    return area


def macro_auroc(labels: np.ndarray, probs: np.ndarray) -> Weighted:
    """Mean one-against-rest area over the classes that have both sides, as :func:`diagnoser.metrics.auroc`."""
    areas = [binary_auroc(labels == index, probs[:, index]) for index in np.unique(labels)]

    def mean(weights: np.ndarray) -> np.ndarray:
        found = np.stack([area(weights) for area in areas], axis=-1)
        known = np.isfinite(found)
        return ratio(np.where(known, found, 0.0).sum(axis=-1), known.sum(axis=-1))

    return mean


def calibration_error(labels: np.ndarray, probs: np.ndarray, bins: int = BINS) -> Weighted:
    """Expected calibration error of the top class, as :func:`diagnoser.metrics.ece`."""
    confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
    gaps = np.zeros((len(labels), bins))
    gaps[np.arange(len(labels)), bin_of(confidence, bins)] = confidence - hit
    return lambda weights: ratio(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def brier(labels: np.ndarray, probs: np.ndarray) -> Weighted:
    """Brier score: squared distance of the probabilities from the truth, 0 to 2."""
    distance = ((probs - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1)
    return lambda weights: ratio(weights @ distance, weights.sum(axis=1))
