"""Is a generated clip a copy of a training clip? Said by the fingerprints of :mod:`generator.likeness`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from generator.likeness import copy_threshold, fingerprint, similarities
from resp229k.audio import Preprocess, prepare
from resp229k.corpus import Corpus
from training.files import read_json, write_json
from training.progress import track


@dataclass(frozen=True)
class Copies:
    """Prints of the training clips, and how near to them real clips of other subjects come.

    Attributes:
        clip_ids: ``N`` training clips.
        prints: of each ``(L, 32)``.
        threshold: similarity above which a clip is a copy (:func:`generator.likeness.copy_threshold`).
    """

    clip_ids: list[str]
    prints: list[np.ndarray]
    threshold: float

    @classmethod
    def measure(cls, train: Corpus, held_out: Corpus, how: Preprocess) -> Self:
        """Prints of ``train``; the threshold from clips of other subjects.

        All are prepared as for the diagnoser, so that short events are as long as what is generated: the
        longer of two sounds, the more chances that some part is like the other.

        Raises:
            DataError: one of them is empty.
            AudioError: a recording cannot be used.
        """
        mine, theirs = (
            [fingerprint(prepare(corpus.audio(clip), how)) for clip in track(corpus.clips, what)]
            for corpus, what in ((train, "prints of train"), (held_out, "prints of plan"))
        )
        usual = similarities(theirs, mine)[1]
        return cls([c.clip_id for c in train.clips], mine, copy_threshold(usual))

    def save(self, folder: Path) -> None:
        """Write ``prints.npz`` and ``likeness.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "prints.npz", *self.prints)
        write_json(folder / "likeness.json", {"clips": self.clip_ids, "threshold": self.threshold})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        record = read_json(folder / "likeness.json")
        with np.load(folder / "prints.npz") as held:
            prints = [held[f"arr_{i}"] for i in range(len(record["clips"]))]
        return cls(record["clips"], prints, record["threshold"])

    def __call__(self, waves: Sequence[np.ndarray]) -> list[str]:
        """What each wave ``(n,)`` is a copy of, and how near; empty where of nothing.

        Raises:
            AudioError: a wave is empty or silent.
        """
        rows, near = similarities([fingerprint(wave) for wave in waves], self.prints)
        return [
            f"of {self.clip_ids[row]}, similarity {value:.3f}" if value > self.threshold else ""
            for row, value in zip(rows, near, strict=True)
        ]
