"""How every row is chosen and calibrated: on ``select``, by the diagnoser's own criterion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from scipy.special import log_softmax

from diagnoser.baselines.data import PartData
from diagnoser.calibrate import fit_temperature, negative_log_likelihood
from diagnoser.metrics import confusion, macro_f1, number
from diagnoser.predictions import Predictions
from resp229k.tasks import get_task

FLOOR = 1e-6  # least probability before the logarithm: trees say 0
T = TypeVar("T")
Answer = Callable[[str], np.ndarray]  # split → logits (N, C)


@dataclass(frozen=True)
class Fitted:
    """What a trained row says, calibrated, and how it came about.

    Attributes:
        select: on the clips that it was chosen on.
        test: on the clips that it is judged by.
        notes: what was chosen, parameters, steps.
    """

    select: Predictions
    test: Predictions
    notes: dict[str, Any]


def criterion(labels: np.ndarray, logits: np.ndarray) -> float:
    """Macro-F1; among equal ones the smaller loss wins. As the diagnoser chooses its checkpoint."""
    matrix = confusion(labels, logits.argmax(axis=1), logits.shape[1])
    return float(macro_f1(matrix)) - 1e-6 * min(negative_log_likelihood(logits, labels), 100.0)


def choose(data: PartData, candidates: Sequence[T], train: Callable[[T], Answer]) -> tuple[T, Answer]:
    """Train every candidate and take the one that is best on ``select``, the first of equals."""
    found: tuple[float, T, Answer] | None = None
    for candidate in candidates:
        answer = train(candidate)
        score = criterion(data.labels["select"], answer("select"))
        if found is None or score > found[0]:
            found = score, candidate, answer
    assert found is not None
    return found[1], found[2]


def calibrated(data: PartData, answer: Answer, notes: dict[str, Any]) -> Fitted:
    """Answers with one temperature, fitted on ``select``."""
    select = answer("select")
    temperature = fit_temperature(select, data.labels["select"])
    return fitted(
        data,
        log_softmax(select / temperature, axis=1),
        log_softmax(answer("test") / temperature, axis=1),
        {**notes, "temperature": number(temperature)},
        temperature,
    )


def fitted(
    data: PartData, select: np.ndarray, test: np.ndarray, notes: dict[str, Any], temperature: float = 1.0
) -> Fitted:
    """Answers from log-probabilities ``(N, C)``, whose logits were divided by ``temperature``."""
    said = [
        _predictions(data, split, logs, temperature) for split, logs in (("select", select), ("test", test))
    ]
    return Fitted(said[0], said[1], notes)


def _predictions(data: PartData, split: str, logs: np.ndarray, temperature: float) -> Predictions:
    """Log-probabilities ``(N, C)`` of a split beside the truth; the only place where test labels are read."""
    clips, known = data.clips[split], get_task(data.part.task)
    return Predictions(
        clip_ids=[clip.clip_id for clip in clips],
        subject_ids=[clip.subject_id for clip in clips],
        labels=np.array([known.index(clip.labels[data.part.task]) for clip in clips], dtype=np.int64),
        probs=np.exp(logs).astype(np.float32),
        classes=data.classes,
        temperatures=np.full(len(clips), temperature, dtype=np.float64),
    )


def spread(given: np.ndarray, present: Sequence[int] | np.ndarray, classes: int) -> np.ndarray:
    """Logits ``(N, C)`` from the probabilities of the classes that training clips have."""
    whole = np.zeros((len(given), classes))
    whole[:, np.asarray(present)] = given
    return np.log(np.maximum(whole, FLOOR))
