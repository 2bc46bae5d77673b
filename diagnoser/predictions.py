"""What a diagnoser said of a set of clips."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from training.errors import DataError
from training.files import fsync_folder


@dataclass(frozen=True)
class Predictions:
    """Calibrated probabilities beside the truth.

    Attributes:
        clip_ids: ``N`` ids.
        subject_ids: ``N`` ids of the clips' subjects.
        labels: true class indices ``(N,)`` int64.
        probs: probabilities ``(N, C)`` float32, rows sum to 1.
        classes: ``C`` names.
        temperatures: that the logits were divided by ``(N,)``; None where nobody says.
    """

    clip_ids: list[str]
    subject_ids: list[str]
    labels: np.ndarray
    probs: np.ndarray
    classes: tuple[str, ...]
    temperatures: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, c = len(self.clip_ids), len(self.classes)
        if self.labels.shape != (n,) or self.probs.shape != (n, c) or len(self.subject_ids) != n:
            raise DataError(
                f"predictions do not fit together: {n} clips, {len(self.subject_ids)} subjects, "
                f"labels {self.labels.shape}, probabilities {self.probs.shape}, {c} classes"
            )
        if not np.isfinite(self.probs).all():
            raise DataError("predictions hold NaN or infinite probabilities")
        if self.temperatures is not None and self.temperatures.shape != (n,):
            raise DataError(f"{n} predictions have {self.temperatures.shape} temperatures")

    @property
    def guesses(self) -> np.ndarray:
        """Most probable class of each clip ``(N,)``."""
        return self.probs.argmax(axis=1)

    @property
    def uncalibrated(self) -> np.ndarray | None:
        """Probabilities ``(N, C)`` before the temperature; None where it is not known."""
        if self.temperatures is None:
            return None
        from diagnoser.calibrate import retemper  # SciPy only where it is needed

        return retemper(self.probs, self.temperatures)

    @property
    def sources(self) -> np.ndarray:
        """Collection of each clip ``(N,)``: what stands before the colon of its subject's id."""
        return np.array([name.split(":", 1)[0] for name in self.subject_ids], dtype=np.str_)

    def take(self, rows: np.ndarray) -> Self:
        """Some of the clips: ``rows`` are indices, or a mask ``(N,)``."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return replace(
            self,
            clip_ids=[self.clip_ids[row] for row in rows],
            subject_ids=[self.subject_ids[row] for row in rows],
            labels=self.labels[rows],
            probs=self.probs[rows],
            temperatures=None if self.temperatures is None else self.temperatures[rows],
        )

    @classmethod
    def pool(cls, parts: Sequence[Self]) -> Self:
        """Predictions of several test sets, e.g. the folds of a cross-validation, as those of one.

        Raises:
            DataError: none, other classes, or a clip that is in two of them.
        """
        if not parts:
            raise DataError("no predictions to pool")
        if len({part.classes for part in parts}) > 1:
            raise DataError("predictions of different classes cannot be pooled")
        ids = [name for part in parts for name in part.clip_ids]
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise DataError(f"{len(twice)} clips are in two sets of predictions, e.g. {twice[0]}")
        known = [part.temperatures for part in parts if part.temperatures is not None]
        return cls(
            clip_ids=ids,
            subject_ids=[name for part in parts for name in part.subject_ids],
            labels=np.concatenate([part.labels for part in parts]),
            probs=np.concatenate([part.probs for part in parts]),
            classes=parts[0].classes,
            temperatures=np.concatenate(known) if len(known) == len(parts) else None,
        )

    def vote(self) -> Self | None:
        """One row for each subject: the mean of its clips' probabilities.

        None where a subject's clips have several labels: then there is nothing to vote on. The mean has
        no temperature of its own.
        """
        names, place = np.unique(np.asarray(self.subject_ids, dtype=np.str_), return_inverse=True)
        if len(set(zip(place.tolist(), self.labels.tolist(), strict=True))) > len(names):
            return None
        sums = np.zeros((len(names), len(self.classes)))
        np.add.at(sums, place, self.probs)
        labels = np.zeros(len(names), dtype=np.int64)
        labels[place] = self.labels
        return replace(
            self,
            clip_ids=names.tolist(),
            subject_ids=names.tolist(),
            labels=labels,
            probs=(sums / np.bincount(place)[:, None]).astype(np.float32),
            temperatures=None,
        )

    def save(self, path: Path) -> None:
        """Write as NPZ without pickled objects."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as file:
            np.savez(
                file,
                clip_ids=np.array(self.clip_ids, dtype=np.str_),
                subject_ids=np.array(self.subject_ids, dtype=np.str_),
                labels=self.labels.astype(np.int64),
                probs=self.probs.astype(np.float32),
                classes=np.array(self.classes, dtype=np.str_),
                temperatures=np.zeros(0) if self.temperatures is None else self.temperatures,
            )
        temporary.replace(path)
        fsync_folder(path.parent)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: missing, or no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                temperatures = data.get("temperatures", np.zeros(0))
                return cls(
                    clip_ids=data["clip_ids"].tolist(),
                    subject_ids=data["subject_ids"].tolist(),
                    labels=data["labels"],
                    probs=data["probs"],
                    classes=tuple(data["classes"].tolist()),
                    temperatures=temperatures if temperatures.size else None,
                )
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise DataError(f"holds no predictions ({error})", path=path) from error
