"""What can be said of generated frames and waves without a judge."""

from __future__ import annotations

import math
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


def frame_variance(frames: Sequence[np.ndarray]) -> tuple[float, float]:
    """Variance of clips' frames ``(L, M)``: of all of them, and over time within a clip; means over the bins.

    The difference is what clips differ by in their mean spectra: generated clips that all sound alike lack it.
    """
    clips = [f.astype(np.float64) for f in frames]
    within = np.mean([clip.var(axis=0).mean() for clip in clips])
    return float(np.concatenate(clips).var(axis=0).mean()), float(within)


def modulation_spectrum(
    frames: Sequence[np.ndarray], frame_rate: float, top: float = 25.0
) -> tuple[np.ndarray, np.ndarray]:
    """How fast clips' frames ``(L, M)`` change.

    Breath stands at about 0.3 Hz, a crackle's attack above 10 Hz; blur takes the high part, residual noise
    fills it.

    Args:
        frames: of clips, of any length each.
        frame_rate: frames per second.
        top: highest modulation, Hz; at most half the frame rate.

    Returns:
        centres of 1 Hz bands ``(K,)`` and the power density in them ``(K,)``, per Hz; mean over clips and
        bins. The first band is 0.5 to 1.5 Hz. Over all of 0 to half the frame rate it sums to the variance.
    """
    centres = np.arange(1.0, min(top, frame_rate / 2) + 1e-9)
    edges = np.append(centres - 0.5, centres[-1] + 0.5)
    total = np.zeros(centres.size)
    for clip in frames:
        x = clip.astype(np.float64) - clip.mean(axis=0, dtype=np.float64)
        window = np.hanning(len(x) + 2)[1:-1]
        size = max(len(x), math.ceil(2 * frame_rate))  # a short clip too has a point in each band
        power = (np.abs(np.fft.rfft(x * window[:, None], size, axis=0)) ** 2).mean(axis=1)
        power *= 2 / (frame_rate * np.sum(window**2))
        band = np.digitize(np.fft.rfftfreq(size, 1 / frame_rate), edges) - 1
        inside = (band >= 0) & (band < centres.size)
        sums = np.bincount(band[inside], power[inside], centres.size)
        total += sums / np.bincount(band[inside], minlength=centres.size)
    return centres, total / len(frames)


def modulation_distance(made: Sequence[np.ndarray], real: Sequence[np.ndarray], frame_rate: float) -> float:
    """Mean absolute difference in dB of two sets' modulation spectra up to 25 Hz."""
    a, b = (modulation_spectrum(frames, frame_rate)[1] for frames in (made, real))
    tiny = np.finfo(np.float64).tiny
    return float(np.abs(10 * np.log10(np.maximum(a, tiny) / np.maximum(b, tiny))).mean())


def compare_frames(
    made: Sequence[np.ndarray], real: Sequence[np.ndarray], frame_rate: float
) -> dict[str, float]:
    """Generated frames ``(L, M)`` against real ones: neither noise nor blur.

    Returns:
        ``texture_ratio``, ``variance_ratio``, ``time_variance_ratio`` (1: alike; below: blur, above: noise)
        and ``modulation_db`` (0: alike).
    """
    (total, within), (real_total, real_within) = frame_variance(made), frame_variance(real)
    return {
        "texture_ratio": texture(made) / texture(real),
        "variance_ratio": total / real_total,
        "time_variance_ratio": within / real_within,
        "modulation_db": modulation_distance(made, real, frame_rate),
    }
