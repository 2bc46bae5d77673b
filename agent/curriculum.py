"""What joins a round to the one before: how much synthetic clips may count, and the forgetting guard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.config import CurriculumSettings
from diagnoser.config import Learning

if TYPE_CHECKING:
    from diagnoser.predictions import Predictions

DRAWS = 1000  # of the guard's bootstrap


def share_of(settings: CurriculumSettings, number: int) -> float | None:
    """Largest share of the loss that synthetic clips may carry in round ``number``; None: no bound."""
    shares = settings.synthetic_share
    return None if shares is None or number == 0 else shares[min(number, len(shares)) - 1]


def synthetic_weight(
    share: float | None, real: Mapping[str, int], synthetic: Mapping[str, int], chosen: Learning
) -> float:
    """Weight of a synthetic clip's loss under which all of them carry at most ``share`` of it.

    A share of the loss is a share of the clips times how often their class is drawn (``balanced``) and how
    much it weighs (``loss_weights``). Nothing is weighed above ``chosen.synthetic_weight``.

    Args:
        share: bound; None: there is none.
        real: clips per class in train, copies counted.
        synthetic: synthetic clips per class in train.
        chosen: how the diagnoser learns.
    """
    made = {name: count for name, count in synthetic.items() if count}
    if share is None or share == 1 or not made:
        return chosen.synthetic_weight
    mass = {"real": 0.0, "synthetic": 0.0}
    for name in sorted(set(real) | set(made)):
        clips = real.get(name, 0) + made.get(name, 0)
        if clips:
            each = _weight(clips, chosen) / (clips if chosen.balanced else 1)
            mass["real"] += each * real.get(name, 0)
            mass["synthetic"] += each * made.get(name, 0)
    bound = share / (1 - share) * mass["real"] / mass["synthetic"]
    return min(chosen.synthetic_weight, round(bound, 6))


def _weight(clips: int, chosen: Learning) -> float:
    """Weight of a clip's loss by the size of its class, up to a factor common to all classes."""
    if chosen.loss_weights == "none":
        return 1.0
    if chosen.loss_weights == "inverse":
        return 1.0 / clips
    return (1.0 - chosen.effective_beta) / (1.0 - chosen.effective_beta**clips)


def paired_difference(after: Predictions, before: Predictions, seed: int = 0) -> dict[str, float]:
    """Macro-F1 of ``after`` minus that of ``before`` with its 95 % interval.

    Subjects are drawn with replacement, the same for both, so what makes a subject hard for both
    diagnosers cancels.

    Returns:
        ``difference``, ``low``, ``high``.

    Raises:
        DataError: the two are not of the same clips.
    """
    from diagnoser.bootstrap import paired_matrices, percentiles
    from diagnoser.metrics import macro_f1

    pair, drawn = paired_matrices(after, before, DRAWS, seed)
    whole = [float(macro_f1(matrix)) for matrix in pair]
    low, high = percentiles(macro_f1(drawn[0]) - macro_f1(drawn[1]))
    return {
        "difference": round(whole[0] - whole[1], 6),
        "low": round(low, 6),
        "high": round(high, 6),
    }


def forgot(guard: Mapping[str, float]) -> bool:
    """Whether a round lowered the score beyond its interval: all of the interval lies below zero."""
    return guard["high"] < 0
