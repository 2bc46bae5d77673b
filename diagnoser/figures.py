"""The figures of a set of predictions: scores, intervals over subjects, per class, source and subject."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from diagnoser.bootstrap import (
    Weighted,
    binary_auroc,
    brier,
    calibration_error,
    macro_auroc,
    percentiles,
    resample,
    reweigh,
)
from diagnoser.metrics import (
    accuracy,
    challenge_scores,
    confusion,
    f1s,
    macro_f1,
    nanmean,
    number,
    recalls,
    reliability,
    sp_se_score,
    subject_matrices,
    tail_macro_f1,
)
from diagnoser.predictions import Predictions
from resp229k.tasks import get_task

Score = Callable[[np.ndarray], np.ndarray]

TAIL = 0.01  # share of the real training clips below which a class is in the tail
CHALLENGE = {"spr_event": ("task11", "task12"), "spr_record": ("task21", "task22")}
"""The SPRSound challenge's tasks on our labels: any adventitious class, and the exact one."""

NO_SOUND = frozenset({"Poor Quality"})  # classes that are neither normal nor adventitious


def figures(
    predictions: Predictions, *, tail: Collection[str] = (), draws: int = 1000, seed: int = 0, task: str
) -> dict[str, Any]:
    """Scores with 95 % bootstrap intervals over subjects, per-class figures and the confusion matrix.

    ``macro_f1`` is the mean over the classes present in the truth; undefined scores are None.
    ``recall`` and ``f1`` hold the classes present in the truth. ``ece_raw`` is before the temperature,
    where that is known. ``per_source`` scores each collection, ``per_subject`` the vote of each
    subject's clips where all of them have one label and some subject has several.

    Args:
        predictions: calibrated probabilities and truth, at least one clip.
        tail: names of the rare classes.
        draws: bootstrap samples.
        seed: of the draws.
        task: of the labels.
    """
    names = predictions.classes
    total = confusion(predictions.labels, predictions.guesses, len(names))
    options: dict[str, Any] = {"tail": tail, "draws": draws, "seed": seed, "task": task}
    record = scored(predictions, **options)
    sources = np.unique(predictions.sources).tolist()
    whole = dict(record)  # is that of the one source, where there is one
    record |= {
        "tail": [name for name in names if name in tail],
        "reliability": reliability(predictions.labels, predictions.probs),
        "confusion": {"classes": list(names), "counts": total.tolist()},
        "per_source": {
            source: whole
            if len(sources) == 1
            else scored(predictions.take(predictions.sources == source), **options)
            for source in sources
        },
    }
    raw = predictions.uncalibrated
    if raw is not None:
        record["reliability_raw"] = reliability(predictions.labels, raw)
    votes = predictions.vote()
    if votes is not None and len(votes.labels) < len(predictions.labels):
        record["per_subject"] = scored(votes, **options)
    return record


def scored(
    predictions: Predictions, *, tail: Collection[str], draws: int, seed: int, task: str
) -> dict[str, Any]:
    """Scores and per-class figures with their intervals; arguments as :func:`figures`."""
    names = predictions.classes
    matrices = subject_matrices(predictions.labels, predictions.guesses, predictions.subject_ids, len(names))
    total, known = matrices.sum(axis=0), np.unique(predictions.labels).tolist()
    found = distributions(predictions, tail=tail, draws=draws, seed=seed, task=task)
    drawn = recalls(resample(matrices, draws, seed))
    return {
        "clips": len(predictions.labels),
        "subjects": len(matrices),
        **{name: number(value) for name, (value, _) in found.items()},
        "intervals": {name: _bounds(values) for name, (_, values) in found.items()},
        "recall": {names[i]: number(recalls(total)[i]) for i in known},
        "recall_intervals": {names[i]: _bounds(drawn[:, i]) for i in known},
        "f1": {names[i]: number(f1s(total)[i]) for i in known},
        "support": {names[i]: int(total[i].sum()) for i in known},
    }


def distributions(
    predictions: Predictions, *, tail: Collection[str], draws: int, seed: int, task: str
) -> dict[str, tuple[float, np.ndarray]]:
    """Score → its value and its bootstrap values ``(draws,)``.

    Two sets of predictions of the same subjects have the same draws, so their values pair up.
    """
    names, subjects = predictions.classes, predictions.subject_ids
    matrices = subject_matrices(predictions.labels, predictions.guesses, subjects, len(names))
    total, drawn = matrices.sum(axis=0), resample(matrices, draws, seed)
    found = {name: (float(score(total)), score(drawn)) for name, score in _scores(names, tail, task).items()}
    once, of_clips = np.ones((1, len(predictions.labels))), _of_clips(predictions, task)
    for name, values in reweigh(of_clips, subjects, draws, seed).items():
        found[name] = float(of_clips[name](once)[0]), values
    return found


def source_prior(
    predictions: Predictions, majority: int | np.ndarray, *, tail: Collection[str] = (), task: str
) -> dict[str, Any]:
    """What always guessing the training majority would score: the row a trained model has to beat.

    Args:
        predictions: the clips.
        majority: class index; one for each clip ``(N,)`` where folds were trained apart.
        tail: names of the rare classes.
        task: of the labels.
    """
    names = predictions.classes
    guesses = np.broadcast_to(majority, predictions.labels.shape)
    matrix = confusion(predictions.labels, guesses, len(names))
    return {
        "class": " / ".join(names[index] for index in np.unique(guesses)),
        **{name: number(score(matrix)) for name, score in _scores(names, tail, task).items()},
    }


def tail_of(counts: dict[str, int]) -> tuple[str, ...]:
    """Classes with less than 1 % of the training clips, and at least one.

    A class that was never trained on is no tail but unseen: no method without other data can score there.
    """
    total = sum(counts.values())
    return tuple(name for name, count in counts.items() if 0 < count < TAIL * total)


def _bounds(values: np.ndarray) -> list[float | None]:
    return [number(bound) for bound in percentiles(values)]


def _scores(names: tuple[str, ...], tail: Collection[str], task: str) -> dict[str, Score]:
    """Scores of confusion matrices ``(…, C, C)``."""
    rare = [index for index, name in enumerate(names) if name in tail]
    scores: dict[str, Score] = {
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "macro_recall": lambda m: nanmean(recalls(m)),
        "tail_macro_f1": lambda m: tail_macro_f1(m, rare),
    }
    normal = get_task(task).normal
    if normal is not None:
        index = names.index(normal)
        for place, name in enumerate(("sp", "se", "score")):
            scores[name] = lambda m, place=place: sp_se_score(m, index)[place]  # type: ignore[misc]
        for exact, prefix in enumerate(CHALLENGE.get(task, ())):
            scores |= _challenge(prefix, index, _adventitious(names, index), exact=bool(exact))
    return scores


def _challenge(prefix: str, normal: int, adventitious: Sequence[int], *, exact: bool) -> dict[str, Score]:
    return {
        f"{prefix}_{name}": lambda m, place=place: challenge_scores(m, normal, adventitious, exact=exact)[  # type: ignore[misc]
            place
        ]
        for place, name in enumerate(("se", "sp", "as", "hs", "score"))
    }


def _adventitious(names: tuple[str, ...], normal: int) -> list[int]:
    return [index for index, name in enumerate(names) if index != normal and name not in NO_SOUND]


def _of_clips(predictions: Predictions, task: str) -> dict[str, Weighted]:
    """Scores that need every clip's probabilities."""
    labels, probs = predictions.labels, predictions.probs
    scores = {
        "auroc": macro_auroc(labels, probs),
        "ece": calibration_error(labels, probs),
        "brier": brier(labels, probs),
    }
    raw = predictions.uncalibrated
    if raw is not None:
        scores["ece_raw"] = calibration_error(labels, raw)
        scores["brier_raw"] = brier(labels, raw)
    normal = get_task(task).normal
    if normal is not None:
        index = predictions.classes.index(normal)
        judged = np.isin(labels, [index, *_adventitious(predictions.classes, index)])
        area = binary_auroc(labels != index, -probs[:, index])
        scores["auroc_abnormal"] = lambda weights: area(weights * judged)
    return scores
