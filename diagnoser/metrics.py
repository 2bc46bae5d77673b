"""Scores of a classifier. NumPy only; intervals over subjects are in :mod:`diagnoser.bootstrap`.

Every score is in [0, 1]; undefined ones (no clip to judge by) are NaN in arrays and None in records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15


def confusion(labels: np.ndarray, guesses: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``(C, C)``: truth in rows, guess in columns."""
    return np.bincount(labels * classes + guesses, minlength=classes * classes).reshape(classes, classes)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where ``whole`` is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def recalls(matrix: np.ndarray) -> np.ndarray:
    """Recall per class ``(…, C)`` of confusion matrices ``(…, C, C)``; NaN for absent classes."""
    return ratio(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1))


def f1s(matrix: np.ndarray) -> np.ndarray:
    """F1 per class ``(…, C)``; NaN for classes absent from the truth."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    truth, guessed = matrix.sum(axis=-1), matrix.sum(axis=-2)
    return np.where(truth > 0, ratio(2 * hits, truth + guessed), np.nan)


def nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of clips given their class."""
    return ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def macro_f1(matrix: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes present in the truth."""
    return nanmean(f1s(matrix))


def tail_macro_f1(matrix: np.ndarray, tail: Sequence[int]) -> np.ndarray:
    """Mean F1 over those classes of ``tail`` that are present in the truth."""
    return nanmean(f1s(matrix)[..., list(tail)])


def sp_se_score(matrix: np.ndarray, normal: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ICBHI challenge's Sp, Se and Score.

    Sp is the recall of the normal class. Se is the share of the abnormal clips that are given their
    *exact* class: a crackle called wheeze is an error. Score is their mean.
    """
    hits, truth = np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1)
    sp = ratio(hits[..., normal], truth[..., normal])
    se = ratio(
        hits.sum(axis=-1) - hits[..., normal],
        truth.sum(axis=-1) - truth[..., normal],
    )
    return sp, se, (sp + se) / 2


def challenge_scores(
    matrix: np.ndarray, normal: int, adventitious: Sequence[int], *, exact: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """SE, SP, AS, HS and Score of the SPRSound challenge (IEEE BioCAS 2022).

    SP is the recall of Normal. SE is the share of the adventitious clips that are called their class
    (``exact``, tasks 1-2 and 2-2) or any adventitious one (tasks 1-1 and 2-1). AS is their mean, HS
    their harmonic mean (0 where both are 0), Score the mean of AS and HS. A clip of any other class
    (Poor Quality) is in neither ratio; calling a Normal or adventitious clip so is an error.

    Args:
        matrix: confusion counts ``(…, C, C)``.
        normal: index of the normal class.
        adventitious: indices of the adventitious classes.
        exact: whether the class must be right.
    """
    rows = matrix[..., list(adventitious), :]
    square = rows[..., list(adventitious)]
    hits = np.trace(square, axis1=-2, axis2=-1) if exact else square.sum(axis=(-2, -1))
    se = ratio(hits, rows.sum(axis=(-2, -1)))
    sp = ratio(matrix[..., normal, normal], matrix[..., normal, :].sum(axis=-1))
    mean = (se + sp) / 2
    harmonic = np.where(se + sp == 0, 0.0, ratio(2 * se * sp, se + sp))
    return se, sp, mean, harmonic, (mean + harmonic) / 2


def auroc(labels: np.ndarray, probs: np.ndarray) -> float:
    """Mean one-against-rest area under the ROC curve over the classes that have both sides.

    Ties count half. NaN if no class has both sides.
    """
    areas = []
    for index in range(probs.shape[1]):
        positive = labels == index
        ones, zeros = int(positive.sum()), int((~positive).sum())
        if ones and zeros:
            _, inverse, counts = np.unique(probs[:, index], return_inverse=True, return_counts=True)
            ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each distinct value, from 1
            areas.append((ranks[inverse][positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))
    return float(np.mean(areas)) if areas else math.nan


def ece(labels: np.ndarray, probs: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the top class over equal-width bins ``(lower, upper]``."""
    confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
    if not len(labels):
        return math.nan
    gap = np.bincount(bin_of(confidence, bins), weights=confidence - hit, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def reliability(labels: np.ndarray, probs: np.ndarray, bins: int = BINS) -> list[dict[str, float | int]]:
    """The bins of :func:`ece`: edges, clips, mean confidence and share of hits; empty ones are left out."""
    confidence, hit = probs.max(axis=1), probs.argmax(axis=1) == labels
    place = bin_of(confidence, bins)
    found: list[dict[str, float | int]] = []
    for index in np.unique(place).tolist():
        here = place == index
        found.append(
            {
                "low": round(index / bins, 6),
                "high": round((index + 1) / bins, 6),
                "clips": int(here.sum()),
                "confidence": round(float(confidence[here].mean()), 6),
                "accuracy": round(float(hit[here].mean()), 6),
            }
        )
    return found


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Index of the equal-width bin ``(lower, upper]`` of each confidence."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def subject_matrices(
    labels: np.ndarray, guesses: np.ndarray, subjects: Sequence[str], classes: int
) -> np.ndarray:
    """Confusion counts of each subject ``(S, C, C)``, subjects sorted by id."""
    names, place = np.unique(np.asarray(subjects, dtype=np.str_), return_inverse=True)
    flat = (place * classes + labels) * classes + guesses
    counts = np.bincount(flat, minlength=len(names) * classes * classes)
    return counts.reshape(len(names), classes, classes)


def number(value: Any, digits: int = 6) -> float | None:
    """A score for a JSON record: rounded, None if undefined."""
    return round(float(value), digits) if math.isfinite(float(value)) else None
