"""The error profile: what a diagnoser says of its own weaknesses, class by class."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnoser.bootstrap import draw_counts, resample
from diagnoser.metrics import (
    accuracy,
    confusion,
    ece,
    f1s,
    macro_f1,
    nanmean,
    number,
    ratio,
    recalls,
    subject_matrices,
    tail_macro_f1,
)
from training.config import Strict
from training.errors import DataError

if TYPE_CHECKING:
    from diagnoser.predictions import Predictions


DRAWS = 1000  # of the bootstrap
UNKNOWN = 0.5  # standard error of a mean probability of which nothing is known
FINEST = 0.001  # as far as a mean probability is ever known


class ClassProfile(Strict):
    """One class that occurs in the truth.

    Attributes:
        label: its name.
        support: clips of the class, at least 1.
        recall: share of them found.
        precision: share of the guesses of this class that are right; None without guesses.
        f1: harmonic mean of the two; 0 where the class was never found.
        f1_error: its standard error over subjects (:func:`subject_errors`).
        confidence: mean probability given to this class on its own clips.
        confidence_error: its standard error over subjects.
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
    confidence_error: float
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
    errors = subject_errors(f1s(resample(subjects, DRAWS, 0)), predictions)
    doubts = _confidence_errors(predictions)
    return ErrorProfile(
        clips=len(labels),
        subjects=len(set(predictions.subject_ids)),
        accuracy=rounded(accuracy(matrix)),
        macro_recall=rounded(nanmean(recalls(matrix))),
        macro_f1=rounded(macro_f1(matrix)),
        tail_macro_f1=number(tail_macro_f1(matrix, rare)),
        ece=rounded(ece(labels, probs)),
        classes=[
            _one(index, matrix, predictions, (float(errors[index]), float(doubts[index])), index in rare)
            for index in np.unique(labels).tolist()
        ],
    )


def subject_errors(drawn: np.ndarray, predictions: Predictions) -> np.ndarray:
    """Standard errors ``(C,)`` of a figure of each class, or of its change, from draws of the subjects.

    Draws agree wherever all clips do, so that none is smaller than the error of a share of as many clips that agree,
    one more counted on each side: as many as the harmonic mean of the class's clips and subjects, which is what
    they are worth where clips of a subject correlate by a half. Draws without the class say nothing of it.

    Args:
        drawn: values ``(draws, C)``, NaN in draws without the class.
        predictions: whose subjects were drawn.
    """
    clips = np.bincount(predictions.labels, minlength=len(predictions.classes))
    subjects = _subjects(predictions)
    worth = ratio(2.0 * clips * subjects, clips + subjects)
    least = np.sqrt((worth + 1) / (worth + 2)) / (worth + 2)  # √(q (1 − q) / m), m = worth + 2, q = 1 − 1 / m
    return np.fmax(_spread(drawn), least)


def _confidence_errors(predictions: Predictions) -> np.ndarray:
    """Standard errors ``(C,)`` of the mean probability of the true class, over subjects.

    Draws of n subjects vary too little, by √((n − 1) / n), which is undone. The spread of few is itself a matter
    of chance: half of each variance is that of all classes' subjects. Of one subject nothing is known of others.
    """
    subjects = _subjects(predictions)
    own = _spread(_confidences(predictions)) ** 2 * subjects  # variance of a subject
    own = np.where(subjects > 1, own * subjects / np.maximum(subjects - 1, 1), np.nan)
    shared = (own + nanmean(own)) / 2
    found = np.sqrt(ratio(shared, subjects.astype(float)))
    return np.where(np.isnan(found), UNKNOWN, np.clip(found, FINEST, UNKNOWN))


def _spread(drawn: np.ndarray) -> np.ndarray:
    """Standard deviation ``(C,)`` of draws ``(draws, C)``, 0 for a class that is in none."""
    away = drawn - nanmean(drawn.T)
    return np.sqrt(np.nan_to_num(nanmean(away.T**2)))


def _subjects(predictions: Predictions) -> np.ndarray:
    """Subjects of each class ``(C,)``."""
    held = set(zip(predictions.subject_ids, predictions.labels.tolist(), strict=True))
    return np.bincount([label for _, label in held], minlength=len(predictions.classes))


def _confidences(predictions: Predictions) -> np.ndarray:
    """Mean probability of the true class ``(DRAWS, C)`` with the subjects drawn with replacement."""
    labels, rows = predictions.labels, np.arange(len(predictions.labels))
    names, subject = np.unique(predictions.subject_ids, return_inverse=True)
    sums, clips = np.zeros((2, len(names), len(predictions.classes)))
    np.add.at(sums, (subject, labels), predictions.probs[rows, labels])
    np.add.at(clips, (subject, labels), 1)
    times = draw_counts(len(names), DRAWS, 0)
    return ratio(times @ sums, times @ clips)


def rounded(value: Any) -> float:
    """A defined score, with as many digits as a record keeps."""
    return round(float(value), 6)


def _one(
    index: int, matrix: np.ndarray, predictions: Predictions, errors: tuple[float, float], tail: bool
) -> ClassProfile:
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
        f1_error=rounded(errors[0]),
        confidence=rounded(probs[own, index].mean()),
        confidence_error=rounded(errors[1]),
        ece=rounded(ece(predictions.labels[own], probs[own])),
        false_negatives=support - hits,
        confused_with={name: count for name, count in missed.items() if count},
        tail=tail,
    )
