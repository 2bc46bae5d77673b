"""Means, spreads and intervals of a comparison. Two sources of chance, one interval for each.

- **Seeds.** A seed draws the weights, the order of the clips and what the generator makes; on a simulated
  corpus also the corpus itself, test subjects included. The interval is Student's over the paired
  differences per seed. With five seeds it rests on four degrees of freedom.
- **Test subjects.** The interval is the bootstrap's over test subjects, the same draws for both rows, the
  trained diagnosers held fixed. Where every seed has its own test subjects they are drawn per seed, else
  once for all seeds.

On real recordings neither holds the other's chance: all seeds share one corpus. On simulated ones that over
seeds holds both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.figures import scores_of
from diagnoser.bootstrap import percentiles, resample
from diagnoser.metrics import accuracy, macro_f1, number, sp_se_score, subject_matrices, tail_macro_f1
from diagnoser.predictions import Predictions
from resp229k.tasks import get_task
from training.errors import DataError
from training.statistics import deviation

Distribution = dict[str, tuple[float, np.ndarray]]

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Predicted:
    """What the diagnosers of one row said, seed by seed, with what is needed to draw subjects.

    Attributes:
        predictions: of the test split, one for each seed.
        tail: rare classes, one list for each seed.
        task: of the labels.
        draw_seeds: of the bootstrap, one for each seed: equal where the seeds share their test subjects.
    """

    predictions: Sequence[Predictions]
    tail: Sequence[Sequence[str]]
    task: str
    draw_seeds: Sequence[int]

    def distributions(self, draws: int = DRAWS) -> list[Distribution]:
        """Per seed: score → its value and its bootstrap values ``(draws,)``."""
        parts = zip(self.predictions, self.tail, self.draw_seeds, strict=True)
        return [drawn(one, tail, self.task, draws, seed) for one, tail, seed in parts]


def drawn(predictions: Predictions, tail: Sequence[str], task: str, draws: int, seed: int) -> Distribution:
    """Score → its value and its bootstrap values ``(draws,)`` over subjects."""
    names = predictions.classes
    matrices = subject_matrices(predictions.labels, predictions.guesses, predictions.subject_ids, len(names))
    whole, some = matrices.sum(axis=0), resample(matrices, draws, seed)
    rare = [names.index(name) for name in tail if name in names]
    normal = get_task(task).normal
    place = names.index(normal) if normal in names else 0
    scores: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "macro_f1": macro_f1,
        "tail_macro_f1": lambda m: tail_macro_f1(m, rare),
        "accuracy": accuracy,
        "sp": lambda m: sp_se_score(m, place)[0],
        "se": lambda m: sp_se_score(m, place)[1],
        "score": lambda m: sp_se_score(m, place)[2],
    }
    return {name: (float(scores[name](whole)), scores[name](some)) for name in scores_of(task)}


def subject_interval(
    row: Sequence[Distribution], reference: Sequence[Distribution], score: str
) -> list[float | None]:
    """Percentile interval of the mean over seeds of the paired differences, draw by draw."""
    pairs = zip(row, reference, strict=True)
    draws = np.mean([mine[score][1] - theirs[score][1] for mine, theirs in pairs], axis=0)
    return [number(bound) for bound in percentiles(draws, LEVEL)]


def check_pairs(row: Predicted, reference: Predicted) -> None:
    """Refuse to pair predictions of different clips.

    Raises:
        DataError: they are of other clips, classes or labels.
    """
    for mine, theirs in zip(row.predictions, reference.predictions, strict=True):
        same = mine.clip_ids == theirs.clip_ids and mine.classes == theirs.classes
        if not (same and np.array_equal(mine.labels, theirs.labels)):
            raise DataError("predictions of other clips cannot be compared")


def student(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """Student's interval of the mean of independent, about normal values; None for fewer than two."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    mean, error = float(np.mean(values)), deviation(values) / math.sqrt(len(values))
    reach = float(t.ppf((1 + level) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """``values``, ``mean`` and ``std`` (that of a sample, n - 1) over seeds; None where it is undefined."""
    known = [value for value in values if value is not None]
    whole = len(known) == len(values) and bool(known)
    return {
        "values": list(values),
        "mean": number(np.mean(known)) if whole else None,
        "std": number(deviation(known)) if whole else None,
    }


def difference(
    values: Sequence[float | None],
    reference: Sequence[float | None],
    over_subjects: Sequence[float | None],
) -> dict[str, Any]:
    """Paired differences per seed with their mean and both intervals (None where one is undefined)."""
    pairs = list(zip(values, reference, strict=True))
    found = spread([None if a is None or b is None else number(a - b) for a, b in pairs])
    per_seed = [value for value in found["values"] if value is not None]
    interval = student(per_seed) if len(per_seed) == len(pairs) else None
    return found | {
        "over_seeds": None if interval is None else [number(bound) for bound in interval],
        "over_subjects": None if None in over_subjects else list(over_subjects),
    }
