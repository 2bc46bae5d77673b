"""What a diagnoser said of a set of clips."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    clip_ids: list[str]
    subject_ids: list[str]
    labels: np.ndarray
    probs: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        n, c = len(self.clip_ids), len(self.classes)
        if self.labels.shape != (n,) or self.probs.shape != (n, c) or len(self.subject_ids) != n:
            raise DataError(
                f"predictions do not fit together: {n} clips, {len(self.subject_ids)} subjects, "
                f"labels {self.labels.shape}, probabilities {self.probs.shape}, {c} classes"
            )
        if not np.isfinite(self.probs).all():
            raise DataError("predictions hold NaN or infinite probabilities")

    @property
    def guesses(self) -> np.ndarray:
        """Most probable class of each clip ``(N,)``."""
        return self.probs.argmax(axis=1)

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
                return cls(
                    clip_ids=data["clip_ids"].tolist(),
                    subject_ids=data["subject_ids"].tolist(),
                    labels=data["labels"],
                    probs=data["probs"],
                    classes=tuple(data["classes"].tolist()),
                )
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"holds no predictions ({error})", path=path) from error
