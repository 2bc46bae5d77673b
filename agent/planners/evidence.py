"""What clips brought in earlier rounds: gains pooled over classes, with standard errors.

A class's F1 on the plan split rests on a dozen clips, so that its own gain says little. Classes of a group
(tail, others) are likely to gain alike: each is shrunk towards the group's mean, the more the less is known
of it (empirical Bayes; DerSimonian & Laird 1986 for the variance between classes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.planners.plan import ClassState

if TYPE_CHECKING:
    from diagnoser.predictions import Predictions


@dataclass(frozen=True)
class Belief:
    """A figure of a class, such as the change of its F1 per round, and its standard error."""

    gain: float
    error: float


def beliefs(states: Sequence[ClassState]) -> dict[str, Belief]:
    """What is believed of every class, tail and others apart.

    A class without gains of its own takes its group's mean, with the spread between classes as further
    doubt; a group without any gain is left out.
    """
    found: dict[str, Belief] = {}
    for tail in (True, False):
        group = [c for c in states if c.tail == tail]
        mean = pooled(group)
        if mean is None:
            continue
        own = {c.label: _own(c) for c in group if c.gains}
        between = variance_between(list(own.values()))
        for c in group:
            found[c.label] = shrunk(own.get(c.label), mean, between)
    return found


def shrunk(own: Belief | None, mean: Belief, between: float) -> Belief:
    """A class's own gain drawn towards the mean of its group.

    The weight of its own is ``B = τ² / (τ² + s²)``, the variance left is ``B s² + (1 − B)² σ²``.

    Args:
        own: gain and error s; None: there is none, so that B = 0 and the variance is ``τ² + σ²``.
        mean: of the group, error σ.
        between: variance τ² between classes.
    """
    if own is None:
        return Belief(mean.gain, math.sqrt(mean.error**2 + between))
    weight = between / (between + own.error**2)
    left = weight * own.error**2 + (1 - weight) ** 2 * mean.error**2
    return Belief(weight * own.gain + (1 - weight) * mean.gain, math.sqrt(left))


def pooled(states: Sequence[ClassState]) -> Belief | None:
    """Mean gain of classes, each weighted by ``1 / (s² + τ²)``; None where no class has a gain."""
    own = [_own(c) for c in states if c.gains]
    if not own:
        return None
    between = variance_between(own)
    weights = [1 / (one.error**2 + between) for one in own]
    mean = sum(w * one.gain for w, one in zip(weights, own, strict=True)) / sum(weights)
    return Belief(mean, math.sqrt(1 / sum(weights)))


def _own(c: ClassState) -> Belief:
    """Mean over the class's rounds, each weighted by ``1 / s²``."""
    weights = [1 / error**2 for error in c.gain_errors]
    mean = sum(w * gain for w, gain in zip(weights, c.gains, strict=True)) / sum(weights)
    return Belief(mean, math.sqrt(1 / sum(weights)))


def variance_between(own: Sequence[Belief]) -> float:
    """Variance τ² of the true figures between classes: what the spread exceeds the errors by, 0 at least."""
    weights = [1 / one.error**2 for one in own]
    total = sum(weights)
    mean = sum(w * one.gain for w, one in zip(weights, own, strict=True)) / total
    spread = sum(w * (one.gain - mean) ** 2 for w, one in zip(weights, own, strict=True))
    scale = total - sum(w**2 for w in weights) / total
    return max(0.0, (spread - (len(own) - 1)) / scale) if scale > 0 else 0.0


def class_gains(after: Predictions, before: Predictions, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Change of each class's F1 between two diagnosers on the same clips, and its standard error.

    Subjects are drawn with replacement, the same for both diagnosers.

    Raises:
        DataError: the two are not of the same clips.
    """
    import numpy as np

    from diagnoser.bootstrap import paired_matrices
    from diagnoser.metrics import f1s
    from diagnoser.profile import DRAWS, subject_errors

    pair, drawn = paired_matrices(after, before, DRAWS, seed)
    new, old = f1s(drawn[0]), f1s(drawn[1])
    whole = f1s(pair[0]) - f1s(pair[1])
    support = np.bincount(after.labels, minlength=len(after.classes))
    found = {}
    errors = subject_errors(new - old, after)
    for index in np.flatnonzero(support):
        found[after.classes[index]] = (round(float(whole[index]), 6), round(float(errors[index]), 6))
    return found
