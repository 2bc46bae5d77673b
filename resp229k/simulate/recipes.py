"""What a disease sounds like: overlapping mixtures of breathing patterns and adventitious sounds.

No recipe is a rule. Every class may have every kind of sound; the classes differ in how often, in
which phase, at what pitch or density, and in the breath itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from resp229k.clip import EventKind
from resp229k.simulate.config import check_built

Span = tuple[float, float]


@dataclass(frozen=True)
class Habit:
    """How one kind of sound occurs.

    ``chance`` is that a clip holds it at all; ``inspiration`` and ``expiration`` that a phase of
    such a clip does; ``window`` the part of the phase (0..1) in which it stands. ``pitch`` (Hz),
    ``seconds`` and ``voices`` belong to tones, ``density`` (crackles per second) to crackles.
    """

    kind: EventKind
    chance: float
    inspiration: float
    expiration: float
    window: Span
    gain: Span  # amplitude relative to the breath noise
    pitch: Span = (0.0, 0.0)
    seconds: Span = (0.0, 0.0)
    voices: int = 1
    density: Span = (0.0, 0.0)


# Timing of crackles: fine ones late in inspiration, coarse ones early in inspiration and in expiration.
FINE = Habit("fine crackle", 1.0, 0.95, 0.03, (0.5, 1.0), (2.5, 9.0), density=(8.0, 24.0))
COARSE = Habit("coarse crackle", 1.0, 0.8, 0.45, (0.0, 0.5), (2.5, 9.0), density=(4.0, 12.0))
WHEEZE = Habit(
    "wheeze", 1.0, 0.15, 0.9, (0.05, 1.0), (0.5, 2.5), pitch=(150.0, 800.0), seconds=(0.15, 1.2), voices=2
)
RHONCHUS = Habit("rhonchus", 1.0, 0.35, 0.8, (0.0, 0.9), (0.9, 3.5), pitch=(80.0, 175.0), seconds=(0.15, 0.9))
STRIDOR = Habit(
    "stridor", 1.0, 0.95, 0.05, (0.05, 0.95), (0.5, 2.5), pitch=(520.0, 950.0), seconds=(0.25, 1.0)
)

GENERIC: dict[str, Habit] = {habit.kind: habit for habit in (FINE, COARSE, WHEEZE, RHONCHUS, STRIDOR)}


@dataclass(frozen=True)
class Recipe:
    """One class.

    ``child`` is the share of children; ``rate`` multiplies the breathing rate of the age;
    ``exhale`` is the share of a cycle spent in expiration; ``loudness`` of the breath;
    ``corner`` multiplies the corner frequency of the breath noise (bronchial breathing: above 1);
    ``exhale_db`` is the loudness of expiration relative to inspiration.
    """

    habits: tuple[Habit, ...]
    child: float = 0.45
    rate: Span = (0.85, 1.2)
    exhale: Span = (0.48, 0.62)
    loudness: Span = (0.7, 1.3)
    corner: Span = (0.8, 1.25)
    exhale_db: Span = (-11.0, -3.0)


RECIPES: dict[str, Recipe] = {
    "Control": Recipe(
        habits=(
            replace(FINE, chance=0.05, density=(3.0, 8.0)),
            replace(COARSE, chance=0.06, density=(2.0, 5.0)),
            replace(WHEEZE, chance=0.05),
            replace(RHONCHUS, chance=0.06),
        ),
    ),
    "Asthma": Recipe(
        habits=(
            replace(WHEEZE, chance=0.88, pitch=(260.0, 850.0), voices=3, seconds=(0.3, 1.4)),
            replace(RHONCHUS, chance=0.15),
            replace(COARSE, chance=0.1, density=(2.0, 6.0)),
            replace(STRIDOR, chance=0.04),
        ),
        rate=(0.9, 1.3),
        exhale=(0.56, 0.72),
        exhale_db=(-8.0, 1.0),
    ),
    "COPD": Recipe(
        habits=(
            replace(RHONCHUS, chance=0.75),
            replace(WHEEZE, chance=0.35, pitch=(130.0, 420.0), voices=1),
            replace(COARSE, chance=0.5, density=(2.0, 7.0), window=(0.0, 0.4)),
            replace(FINE, chance=0.05),
        ),
        child=0.3,
        exhale=(0.58, 0.74),
        loudness=(0.4, 0.9),
        corner=(0.7, 1.1),
    ),
    "Pneumonia": Recipe(
        habits=(
            replace(COARSE, chance=0.85, density=(6.0, 14.0), window=(0.1, 0.7)),
            replace(FINE, chance=0.3, density=(6.0, 14.0)),
            replace(RHONCHUS, chance=0.15),
            replace(WHEEZE, chance=0.1),
        ),
        rate=(1.0, 1.45),
        corner=(1.0, 1.7),
        exhale_db=(-6.0, 2.0),
    ),
    "Bronchiolitis": Recipe(
        habits=(
            replace(
                WHEEZE, chance=0.8, pitch=(300.0, 900.0), seconds=(0.12, 0.6), inspiration=0.35, voices=1
            ),
            replace(FINE, chance=0.7, density=(6.0, 16.0), window=(0.3, 1.0), expiration=0.25),
            replace(COARSE, chance=0.2),
            replace(RHONCHUS, chance=0.15),
            replace(STRIDOR, chance=0.06),
        ),
        child=0.65,
        rate=(1.1, 1.6),
        exhale=(0.5, 0.66),
    ),
    "Pulmonary Fibrosis": Recipe(
        habits=(
            replace(FINE, chance=0.92, density=(12.0, 28.0)),
            replace(COARSE, chance=0.1),
            replace(WHEEZE, chance=0.06),
            replace(RHONCHUS, chance=0.05),
        ),
        child=0.3,
        rate=(0.95, 1.35),
        exhale=(0.46, 0.58),
        loudness=(0.6, 1.2),
    ),
}


def disease_recipe(label: str) -> Recipe:
    """The recipe of a class of ``disease16``.

    Raises:
        DataError: the class is unknown or has no recipe; the built ones are named.
    """
    check_built(label)
    return RECIPES[label]


def mixture_recipe(label: str, rng: np.random.Generator) -> Recipe:
    """A disease-free recipe whose sounds give one ``icbhi4`` label: broad rates, pitches and densities."""
    kinds: list[str] = []
    if label in ("crackle", "both"):
        kinds += _subset(("fine crackle", "coarse crackle"), rng)
    if label in ("wheeze", "both"):
        kinds += _subset(("wheeze", "rhonchus", "stridor"), rng)
    habits = [GENERIC[kind] for kind in kinds]
    habits = [
        replace(h, density=(3.0, 28.0)) if h.density[1] else replace(h, voices=int(rng.integers(1, 4)))
        for h in habits
    ]
    return Recipe(
        habits=tuple(habits),
        rate=(0.8, 1.6),
        exhale=(0.45, 0.74),
        loudness=(0.4, 1.4),
        corner=(0.7, 1.7),
        exhale_db=(-11.0, 2.0),
    )


def _subset(kinds: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """A random non-empty subset in which each kind has the same chance."""
    chosen = [kind for kind in kinds if rng.random() < 0.4]
    return chosen or [str(rng.choice(kinds))]
