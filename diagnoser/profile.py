"""The error profile: what a diagnoser says of its own weaknesses, class by class."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnoser.bootstrap import resample
from diagnoser.metrics import (
    accuracy,
    confusion,
    ece,
    f1s,
    macro_f1,
    nanmean,
    number,
    recalls,
    subject_matrices,
    tail_macro_f1,
)
from training.config import Strict
from training.errors import DataError

if TYPE_CHECKING:
    from diagnoser.predictions import Predictions


DRAWS = 1000  # of the bootstrap


class ClassProfile(Strict):
    """One class that occurs in the truth.

    Attributes:
        label: its name.
        support: clips of the class, at least 1.
        recall: share of them found.
        precision: share of the guesses of this class that are right; None without guesses.
        f1: harmonic mean of the two; 0 where the class was never found.
        f1_error: its standard error over subjects, at least the share of one.
        confidence: mean probability given to this class on its own clips.
        ece: calibration error on its clips.
        false_negatives: clips of the class called something else.
        confused_with: what they were called, and how often.
        tail: whether the class is rare in training.
    """

    label: str
    support: int
    recall: float
    precision: float | None
    f1: float
    f1_error: float
    confidence: float
    ece: float
    false_negatives: int
    confused_with: dict[str, int]
    tail: bool


class ErrorProfile(Strict):
    """The classes that occur in the truth, in the task's order, and the scores over them.

    ``tail_macro_f1`` is None when no class of the tail occurs.
    """

    clips: int
    subjects: int
    accuracy: float
    macro_recall: float
    macro_f1: float
    tail_macro_f1: float | None
    ece: float
    classes: list[ClassProfile]


def error_profile(predictions: Predictions, tail: Collection[str] = ()) -> ErrorProfile:
    """Profile of a diagnoser on a set of clips.

    Args:
        predictions: calibrated probabilities and truth.
        tail: names of the rare classes.

    Raises:
        DataError: a name in ``tail`` is no class, or there are no predictions.
    """
    names = predictions.classes
    unknown = sorted(set(tail) - set(names))
    if unknown:
        raise DataError(f"no such classes: {', '.join(unknown)}", cure=f"classes are {', '.join(names)}")
    if not predictions.clip_ids:
        raise DataError("no predictions to profile", cure="the split has no clips of this task")
    labels, probs = predictions.labels, predictions.probs
    matrix = confusion(labels, predictions.guesses, len(names))
    rare = [index for index, name in enumerate(names) if name in tail]
    subjects = subject_matrices(labels, predictions.guesses, predictions.subject_ids, len(names))
    errors = f1_errors(f1s(resample(subjects, DRAWS, 0)), predictions)
    return ErrorProfile(
        clips=len(labels),
        subjects=len(set(predictions.subject_ids)),
        accuracy=rounded(accuracy(matrix)),
        macro_recall=rounded(nanmean(recalls(matrix))),
        macro_f1=rounded(macro_f1(matrix)),
        tail_macro_f1=number(tail_macro_f1(matrix, rare)),
        ece=rounded(ece(labels, probs)),
        classes=[
            _one(index, matrix, predictions, float(errors[index]), index in rare)
            for index in np.unique(labels).tolist()
        ],
    )


def f1_errors(drawn: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Standard errors ``(C,)`` of F1, or of its change, from draws of the subjects of predictions.

    None is smaller than the share of one of the class's subjects: F1 cannot be known finer, even where
    every draw agrees. Draws without the class say nothing of it.

    Args:
        drawn: values ``(draws, C)``, NaN in draws without the class.
        predictions: whose subjects were drawn.
    """
    held = set(zip(predictions.subject_ids, predictions.labels.tolist(), strict=True))
    subjects = np.bincount([label for _, label in held], minlength=len(predictions.classes))
    away = drawn - nanmean(drawn.T)
    return np.maximum(np.sqrt(np.nan_to_num(nanmean(away.T**2))), 1 / (subjects + 1))


def rounded(value: Any) -> float:
    """A defined score, with as many digits as a record keeps."""
    return round(float(value), 6)


def _one(index: int, matrix: np.ndarray, predictions: Predictions, error: float, tail: bool) -> ClassProfile:
    names, probs = predictions.classes, predictions.probs
    own = predictions.labels == index
    support, guessed, hits = int(own.sum()), int(matrix[:, index].sum()), int(matrix[index, index])
    missed = {name: int(matrix[index, other]) for other, name in enumerate(names) if other != index}
    return ClassProfile(
        label=names[index],
        support=support,
        recall=rounded(hits / support),
        precision=rounded(hits / guessed) if guessed else None,
        f1=rounded(2 * hits / (support + guessed)),
        f1_error=rounded(error),
        confidence=rounded(probs[own, index].mean()),
        ece=rounded(ece(predictions.labels[own], probs[own])),
        false_negatives=support - hits,
        confused_with={name: count for name, count in missed.items() if count},
        tail=tail,
    )
