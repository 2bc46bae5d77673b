"""The classifier of the probes, its figures per seed, and its intervals over test subjects."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from beats.probe_data import Fold, ProbeSet
from resp229k.leakage import auroc
from training.progress import track

GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # inverse regularisation, strongest first
STEPS = 100  # of the solver
DRAWS = 1000  # of the bootstrap


class Judged(NamedTuple):
    """Figures per seed, and clips per subject and class ``(S, K)`` over all seeds: right ones, and judged."""

    accuracies: list[float]
    areas: list[float]
    right: np.ndarray
    total: np.ndarray


def classify(x: np.ndarray, labels: np.ndarray, fold: Fold, classes: int) -> np.ndarray:
    """Train on a fold, its regularisation chosen on the fold's inner pairs.

    Args:
        x: ``(N, d)`` float32.
        labels: ``(N,)``; those of ``fold.test`` are not read.
        fold: rows.
        classes: how many there are.

    Returns:
        probabilities ``(len(fold.test), classes)``; zero for a class that no training clip has.
    """
    losses = np.zeros(len(GRID))
    for fit, score in fold.inner:
        # A path from strong to weak: each fit starts where the one before ended.
        for index, given in enumerate(_path(x, labels, fit, score, classes, GRID)):
            losses[index] += _balanced_loss(labels[score], given)
    # The same path: a fit that stops early is what it is by where it started.
    *_, given = _path(x, labels, fold.train, fold.test, classes, GRID[: losses.argmin() + 1])
    return given


def _path(
    x: np.ndarray, labels: np.ndarray, fit: np.ndarray, score: np.ndarray, classes: int, grid: Sequence[float]
) -> Iterator[np.ndarray]:
    """Yield the probabilities ``(len(score), classes)`` that each strength gives."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = x[fit].mean(0), x[fit].std(0)
    # A column that does not vary in training tells nothing, whatever it does later.
    scale = np.where(scale > 1e-6, scale, np.float32(np.inf))
    seen, unseen = (x[fit] - mean) / scale, (x[score] - mean) / scale
    model = LogisticRegression(class_weight="balanced", max_iter=STEPS, tol=1e-3, warm_start=True)
    for strength in grid:
        with warnings.catch_warnings():
            # Weakly regularised fits may stop early; validation then judges what they are.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=strength).fit(seen, labels[fit])
        given = np.zeros((len(score), classes))
        given[:, model.classes_] = model.predict_proba(unseen)
        yield given


def _balanced_loss(labels: np.ndarray, given: np.ndarray) -> float:
    """Cross-entropy, every class that is there weighed alike."""
    losses = -np.log(np.maximum(given[np.arange(len(labels)), labels], 1e-9))
    return float(np.mean([losses[labels == label].mean() for label in np.unique(labels)]))


def judge(data: ProbeSet, x: np.ndarray, seeds: int, name: str) -> Judged:
    """Classify the test clips of every fold of every seed.

    Args:
        data: labels, subjects and folds.
        x: ``(N, d)`` float32.
        seeds: how many.
        name: of the representation, for the progress bar.
    """
    classes = len(data.classes)
    people, who = np.unique(data.subjects, return_inverse=True)
    right, total = np.zeros((len(people), classes)), np.zeros((len(people), classes))
    accuracies, areas = [], []
    for seed in track(range(seeds), f"probe {name} of {data.name}"):
        hits, all_hits = np.zeros_like(right), np.zeros_like(total)
        within = []
        for fold in data.folds(seed):
            given, truth = classify(x, data.labels, fold, classes), data.labels[fold.test]
            np.add.at(all_hits, (who[fold.test], truth), 1)
            np.add.at(hits, (who[fold.test], truth), given.argmax(1) == truth)
            within += [
                auroc(truth == index, given[:, index])
                for index in range(classes)
                if 0 < (truth == index).sum() < len(truth)
            ]
        accuracies.append(float((hits.sum(0) / all_hits.sum(0)).mean()))
        areas.append(float(np.mean(within)))
        right += hits
        total += all_hits
    return Judged(accuracies, areas, right, total)


def drawn(found: Judged) -> np.ndarray:
    """Balanced accuracy ``(DRAWS,)`` of test subjects drawn with replacement; the same draws for every row."""
    there = found.total.any(1)
    right, total = found.right[there], found.total[there]
    draws = np.random.default_rng(0).multinomial(len(total), np.full(len(total), 1 / len(total)), size=DRAWS)
    counts = draws @ total
    # A draw can miss a class: it is the mean of the others then.
    recall = np.divide(draws @ right, counts, out=np.full_like(counts, np.nan), where=counts > 0)
    return np.nanmean(recall, axis=1)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
