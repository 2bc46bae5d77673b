"""What can be said of generated frames and waves without a judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def texture(frames: Sequence[np.ndarray]) -> float:
    """Mean absolute difference over time of normalised log-mel frames ``(L, M)``.

    Too low means over-smooth, too high means residual noise; compare with real clips.
    """
    return float(np.mean([np.abs(np.diff(f.astype(np.float32), axis=0)).mean() for f in frames]))


def mel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two clips' frames ``(L, M)``."""
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())


def spectrum_distance(frames: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Mean absolute difference of paired clips' time-averaged frames: how far the timbre moved."""
    return float(np.mean([np.abs(a.mean(0) - b.mean(0)).mean() for a, b in zip(frames, others, strict=True)]))
