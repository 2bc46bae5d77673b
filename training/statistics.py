"""The one standard deviation that all tables give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def deviation(values: Sequence[float] | Sequence[np.floating] | np.ndarray) -> float:
    """Standard deviation of a sample (n - 1): of seeds, which stand for all others. NaN for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def plus_minus(values: Sequence[float] | np.ndarray, digits: int) -> str:
    """Mean ± :func:`deviation` as tables have it; a dash where nothing was measured."""
    if not len(values):
        return "–"
    mean = f"{np.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {deviation(values):.{digits}f}"
