"""What every figure needs to know of a clip, measured once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Self, TypeVar

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

CHUNK = 32  # clips per step of a progress bar


@dataclass(frozen=True)
class Heard:
    """Clips as judge and encoder hear them; every field has N entries, in one order.

    Attributes:
        labels: what was asked for, or is true.
        waves: 16 kHz ``(n,)``.
        probabilities: ``(N, C)`` of the judge.
        columns: BEATs features ``(T, D)``.
        styles: timbre ``(N, K)``.
    """

    labels: list[str]
    waves: list[np.ndarray]
    probabilities: np.ndarray
    columns: list[np.ndarray]
    styles: np.ndarray

    @property
    def embeddings(self) -> np.ndarray:
        """``(N, D)``, mean over time of the BEATs features."""
        return np.stack([clip.mean(axis=0) for clip in self.columns])

    def take(self, rows: Sequence[int]) -> Self:
        """Some of the clips, in the order of ``rows``."""
        fields: list[Any] = [
            [value[i] for i in rows] if isinstance(value, list) else value[list(rows)]
            for value in vars(self).values()
        ]
        return type(self)(*fields)


@dataclass(frozen=True)
class Described(Heard):
    """What a row needs beside that.

    Attributes:
        fingerprints: ``(L, R)`` for the search of training clips.
        events: crackles and wheezes.
        sounds: hand-made features ``(N, F)`` for a classifier that never met BEATs.
        frames: normalised log-mel ``(L, M)``.
    """

    fingerprints: list[np.ndarray]
    events: list[EventFigures]
    sounds: np.ndarray
    frames: list[np.ndarray]


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
        return join([self._heard(*chunk) for chunk in _chunks(waves, labels, what)])

    def describe(self, waves: Sequence[np.ndarray], labels: Sequence[str], what: str) -> Described:
        """Listen to waves and measure them, as :meth:`hear`."""
        return join([self._described(*chunk) for chunk in _chunks(waves, labels, what)])

    def _heard(self, waves: Sequence[np.ndarray], labels: Sequence[str]) -> Heard:
        return Heard(
            labels=list(labels),
            waves=list(waves),
            probabilities=self.judge.probabilities(waves),
            columns=columns(self.encoder, waves, self.looped),
            styles=np.stack([style_vector(wave) for wave in waves]),
        )

    def _described(self, waves: Sequence[np.ndarray], labels: Sequence[str]) -> Described:
        return Described(
            **vars(self._heard(waves, labels)),
            fingerprints=[fingerprint(wave) for wave in waves],
            events=[event_figures(wave) for wave in waves],
            sounds=describe([prepare(wave, self.narrow) for wave in waves], self.narrow.bandwidth),
            frames=[self.codec.encode(wave) for wave in waves],
        )


def _chunks(
    waves: Sequence[np.ndarray], labels: Sequence[str], what: str
) -> Iterator[tuple[Sequence[np.ndarray], Sequence[str]]]:
    for first in track(range(0, len(waves), CHUNK), f"listen: {what}"):
        yield waves[first : first + CHUNK], labels[first : first + CHUNK]


H = TypeVar("H", bound=Heard)


def join(parts: Sequence[H]) -> H:
    """The clips of several, one after the other."""
    same: list[Any] = [
        list(chain(*values)) if isinstance(values[0], list) else np.concatenate(values)
        for values in zip(*(vars(part).values() for part in parts), strict=True)
    ]
    return type(parts[0])(*same)
