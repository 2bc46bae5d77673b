"""What every figure needs to know of a clip, measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from beats.judge import Judge
from diagnoser.baselines.sounds import describe
from generator.codec import MelCodec
from generator.events import EventFigures, event_figures
from generator.fad import columns
from generator.likeness import fingerprint
from generator.timbre import style_vector
from resp229k.audio import Preprocess, prepare
from training.progress import track

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder

CHUNK = 64  # clips per step of a progress bar


@dataclass(frozen=True)
class Heard:
    """Clips as the figures see them; every field has N entries, in one order.

    Attributes:
        labels: what was asked for, or is true.
        waves: 16 kHz ``(n,)``.
        probabilities: ``(N, C)`` of the judge.
        columns: BEATs features ``(T, D)``.
        styles: timbre ``(N, K)``.
        fingerprints: ``(L, R)`` for the search of training clips.
        events: crackles and wheezes.
        sounds: hand-made features ``(N, F)`` for a classifier that never met BEATs.
        frames: normalised log-mel ``(L, M)``.
    """

    labels: list[str]
    waves: list[np.ndarray]
    probabilities: np.ndarray
    columns: list[np.ndarray]
    styles: np.ndarray
    fingerprints: list[np.ndarray]
    events: list[EventFigures]
    sounds: np.ndarray
    frames: list[np.ndarray]

    @property
    def embeddings(self) -> np.ndarray:
        """``(N, D)``, mean over time of the BEATs features."""
        return np.stack([clip.mean(axis=0) for clip in self.columns])

    def take(self, rows: Sequence[int]) -> Heard:
        """Some of the clips, in the order of ``rows``."""
        return Heard(
            *(
                [value[i] for i in rows] if isinstance(value, list) else value[list(rows)]
                for value in vars(self).values()
            )
        )


class Ears:
    """Everything that listens to clips.

    Args:
        judge: names the classes.
        encoder: of the BEATs features.
        seconds: length to which clips are looped or cut for encoder and hand-made features, so that
            neither tells how long a clip is.
    """

    def __init__(self, judge: Judge, encoder: BeatsEncoder, seconds: float):
        self.judge, self.encoder = judge, encoder
        self.looped = Preprocess(seconds=seconds, fit="loop")
        self.narrow = self.looped.model_copy(update={"bandwidth": judge.config.preprocess.bandwidth})
        # One codec for all weights, whatever theirs is: its frames are compared between them.
        self.codec = MelCodec()

    def hear(self, waves: Sequence[np.ndarray], labels: Sequence[str], what: str) -> Heard:
        """Listen to waves ``(n,)`` at 16 kHz, at least one.

        Raises:
            AudioError: a wave is empty or silent.
        """
        return join(
            [
                self._chunk(waves[first : first + CHUNK], labels[first : first + CHUNK])
                for first in track(range(0, len(waves), CHUNK), f"listen: {what}")
            ]
        )

    def _chunk(self, waves: Sequence[np.ndarray], labels: Sequence[str]) -> Heard:
        return Heard(
            labels=list(labels),
            waves=list(waves),
            probabilities=self.judge.probabilities(waves),
            columns=columns(self.encoder, waves, self.looped),
            styles=np.stack([style_vector(wave) for wave in waves]),
            fingerprints=[fingerprint(wave) for wave in waves],
            events=[event_figures(wave) for wave in waves],
            sounds=describe([prepare(wave, self.narrow) for wave in waves], self.narrow.bandwidth),
            frames=[self.codec.encode(wave) for wave in waves],
        )


def join(parts: Sequence[Heard]) -> Heard:
    """The clips of several, one after the other."""
    fields = zip(*(vars(part).values() for part in parts), strict=True)
    return Heard(
        *(list(chain(*same)) if isinstance(same[0], list) else np.concatenate(same) for same in fields)
    )
