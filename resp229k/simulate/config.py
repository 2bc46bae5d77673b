"""Configs and records of the simulator. No numpy, no torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from resp229k.tasks import DISEASES
from training.config import Strict
from training.errors import DataError

SIMULATED: tuple[str, ...] = DISEASES
"""The classes of ``disease16`` that have a recipe: all of them."""

VERSION = 1  # raised whenever the same config would sound different
EQ_KNOTS = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0)  # Hz, octaves
RATES = (4_000, 8_000, 16_000, 44_100)  # Hz, of the simulated recorders


class Style(Strict):
    """How a source sounds, whatever its subjects have: recorder, room, placement.

    ``eq`` is the device response in dB at :data:`EQ_KNOTS`. ``noise_db`` is the noise floor relative
    to the breath sound and ``noise_tilt`` its colour in dB per octave. ``room_wet`` is the share of
    reverberation, which decays by 60 dB in ``room_seconds``. ``heart`` is the amplitude of heart
    sounds relative to breath, ``thumps`` the handling noises per second, ``level_db`` the recording
    level in dBFS.
    """

    source: str
    device: str
    sample_rate: int = Field(gt=0)
    eq: tuple[float, ...] = Field(default=(0.0,) * len(EQ_KNOTS), min_length=8, max_length=8)
    noise_db: float = -200.0
    noise_tilt: float = 0.0
    room_seconds: float = Field(default=0.1, gt=0, le=0.5)
    room_wet: float = Field(default=0.0, ge=0, le=1)
    heart: float = Field(default=0.0, ge=0)
    thumps: float = Field(default=0.0, ge=0)
    level_db: float = Field(default=-20.0, le=0)


NEUTRAL = Style(source="neutral", device="none", sample_rate=16_000)
"""No room, no noise, a flat response: what the events themselves sound like."""


class SimulateConfig(Strict):
    """A corpus with a long-tailed train split and balanced valid and test splits.

    Train holds ``head`` clips of the first class and ``tail`` of the last, the classes between them
    on a geometric line; the ``rare`` rarest classes come from one train source each. ``select``,
    ``plan`` and ``test`` are clips per class. ``workers`` changes the time, never the result.
    """

    seed: int = Field(default=0, ge=0)
    classes: tuple[str, ...] = SIMULATED
    head: int = Field(default=160, ge=1)
    tail: int = Field(default=6, ge=1)
    rare: int = Field(default=3, ge=0)
    select: int = Field(default=12, ge=0)
    plan: int = Field(default=12, ge=0)
    test: int = Field(default=40, ge=0)
    clips_per_subject: int = Field(default=3, ge=1)
    seconds: float = Field(default=4.0, ge=1.0, le=60.0)
    train_sources: int = Field(default=3, ge=1)
    valid_sources: int = Field(default=2, ge=1)
    test_sources: int = Field(default=2, ge=1)
    workers: int = Field(default=2, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in self.classes:
            check_built(name)
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise ValueError("classes must be different and at least one")
        if self.tail > self.head:
            raise ValueError(f"tail {self.tail} is larger than head {self.head}")
        if self.rare > len(self.classes):
            raise ValueError(f"rare {self.rare} is more than the {len(self.classes)} classes")
        if self.train_sources + self.valid_sources + self.test_sources > 26:
            raise ValueError("at most 26 sources altogether: they are named by letter")
        return self

    def train_counts(self) -> dict[str, int]:
        """Training clips per class, ``head`` down to ``tail``."""
        steps = max(1, len(self.classes) - 1)
        ratio = self.tail / self.head
        return {name: round(self.head * ratio ** (rank / steps)) for rank, name in enumerate(self.classes)}

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Source ids of train, valid and test; no source is in two of them."""
        names = [f"sim{self.seed}-{chr(ord('A') + n)}" for n in range(26)]
        first, second = self.train_sources, self.train_sources + self.valid_sources
        return {
            "train": tuple(names[:first]),
            "valid": tuple(names[first:second]),
            "test": tuple(names[second : second + self.test_sources]),
        }

    def train_sources_of(self, label: str) -> tuple[str, ...]:
        """Train sources that hold a class: all of them, or one if the class is rare."""
        sources = self.sources()["train"]
        from_end = len(self.classes) - 1 - self.classes.index(label)
        if from_end >= self.rare:
            return sources
        return (sources[from_end % len(sources)],)


def check_built(label: str) -> None:
    """Refuse what is no class of ``disease16``.

    Raises:
        DataError: names the classes.
    """
    if label not in SIMULATED:
        raise DataError(f"{label!r} is no class of disease16", cure=f"use one of: {', '.join(SIMULATED)}")


def is_simulated(source: str) -> bool:
    """Whether a source, or the subject of one, is the simulator's: ``sim0-A``, ``sim-pretrain0-3``."""
    return source.startswith("sim")
