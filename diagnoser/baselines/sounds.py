"""Hand-made features of a sound: what it would be described by without any network."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

from beats.config import BINS
from beats.encode import pad_waves
from beats.fbank import LOW, SHIFT, WINDOW, fbank
from resp229k.audio import RATE

BANDS = 16
CEPSTRA = 13
ENVELOPE = ((0.5, 2.0), (2.0, 5.0), (5.0, 15.0), (15.0, 40.0))  # Hz: breaths to crackles
QUIET = 1e-10  # power added before a logarithm or a division
STEADY = 0.01  # nats: loudness that moves less than this is said to stand still


def bins_below(bandwidth: float | None) -> int:
    """Filterbank bins whose centre lies below ``bandwidth`` Hz: above it there is rounding alone."""
    if bandwidth is None:
        return BINS
    low, high, top = (1127.0 * np.log1p(hertz / 700.0) for hertz in (LOW, RATE / 2, bandwidth))
    return int(np.clip((top - low) / (high - low) * (BINS + 1), BANDS, BINS))


def describe(waves: list[np.ndarray], bandwidth: float | None = None) -> np.ndarray:
    """Statistics over the frames of waves of one length.

    Spread, quantiles and change of 16 bands and spread and change of 13 cepstral coefficients, all relative
    to the clip's mean spectrum: what is steady is gone, the recorder's gain, response and noise floor. Beside
    them centre, width, flatness and flux of the spectrum, zero crossings, and how the loudness moves. Means
    over frames, never sums.

    Args:
        waves: 16 kHz, ``(N,)`` each, all of one length.
        bandwidth: Hz above which nothing is read.

    Returns:
        ``(len(waves), features)`` float32.
    """
    padded, lengths = pad_waves(waves)
    mel = fbank(padded, lengths)[0].double().numpy()[..., : bins_below(bandwidth)]
    moving = mel - mel.mean(axis=1, keepdims=True)
    bands = np.stack([part.mean(-1) for part in np.array_split(moving, BANDS, axis=-1)], axis=-1)
    cepstra = dct(moving, axis=-1, norm="ortho")[..., :CEPSTRA]
    parts = [
        bands.std(1),
        *np.quantile(bands, (0.1, 0.9), axis=1),
        np.abs(np.diff(bands, axis=1)).mean(1),
        cepstra.std(1),
        np.diff(cepstra, axis=1).std(1),
        *_spread(_shape(mel)),
        *_spread(_crossings(padded.numpy())[..., None]),
        _loudness(mel),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _spread(values: np.ndarray) -> list[np.ndarray]:
    """Mean and standard deviation of ``(B, L, K)`` over frames."""
    return [values.mean(1), values.std(1)]


def _shape(mel: np.ndarray) -> np.ndarray:
    """Centre, width, flatness and flux of each frame's spectrum ``(B, L, 4)``, in bins and nats."""
    power = np.exp(mel) + QUIET
    share = power / power.sum(-1, keepdims=True)
    place = np.arange(mel.shape[-1])
    centre = share @ place
    width = np.sqrt(np.maximum(share @ place**2 - centre**2, 0.0))
    flatness = mel.mean(-1) - np.log(power.mean(-1))
    flux = np.abs(np.diff(share, axis=1, prepend=share[:, :1])).sum(-1)
    return np.stack([centre, width, flatness, flux], axis=-1)


def _crossings(waves: np.ndarray) -> np.ndarray:
    """Share of samples of each frame at which the sign changes ``(B, L)``."""
    change = np.diff(np.signbit(waves), axis=1)
    frames = np.lib.stride_tricks.sliding_window_view(change, WINDOW - 1, axis=1)[:, ::SHIFT]
    return frames.mean(-1)


def _loudness(mel: np.ndarray) -> np.ndarray:
    """Spread and skew of the frames' loudness, and the shares of its movement by rate ``(B, 6)``."""
    level = np.log(np.exp(mel).sum(-1) + QUIET)
    level = level - level.mean(1, keepdims=True)
    deviation = level.std(1)
    skew = (level**3).mean(1) / (deviation**2 + STEADY**2) ** 1.5
    power = np.abs(np.fft.rfft(level, axis=1)) ** 2
    rate = np.fft.rfftfreq(level.shape[1], SHIFT / RATE)
    shares = [power[:, (rate >= low) & (rate < high)].sum(1) for low, high in ENVELOPE]
    whole = power[:, 1:].sum(1) + (level.shape[1] * STEADY) ** 2 / 2
    return np.stack([deviation, skew, *(part / whole for part in shares)], axis=1)
