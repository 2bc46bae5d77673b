"""When crackles come back out of a codec: known ones in, peaks of the envelope out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resp229k.audio import RATE
from resp229k.simulate.sounds import coloured_noise, crackle
from training.seeds import derive

KINDS = {"fine": (0.0007, 0.005), "coarse": (0.0015, 0.010)}  # s: initial deflection, two-cycle duration
SECONDS = 2.0  # of a wave
GAP = (0.1, 0.2)  # s between crackles, so that none is mistaken for its neighbour
NOISE = 0.05  # root mean square beside crackles that peak near 1
WINDOW = 0.02  # s around a crackle in which its peak is looked for
SMOOTH = 16  # samples, 1 ms: the envelope's window
HEIGHT = 0.5  # of the typical peak: what counts as one


@dataclass(frozen=True)
class Crackled:
    """A wave ``(N,)`` and when the envelope of each of its crackles peaks ``(n,)``, in s."""

    wave: np.ndarray
    peaks: np.ndarray


@dataclass(frozen=True)
class Timing:
    """How well crackles keep their time.

    Attributes:
        median_ms, late_ms: median and 95th percentile of the found ones' distance from their time.
        found: share of them that have a peak within 20 ms.
        extra: further peaks, as a share of the crackles.
        crackles: how many there were.
    """

    median_ms: float | None
    late_ms: float | None
    found: float
    extra: float
    crackles: int


def crackled(kind: str, noisy: bool, seed: int) -> Crackled:
    """Crackles of one kind at random times, alone or over noise that falls as breath does above 300 Hz."""
    rng = np.random.default_rng(seed)
    one = crackle(*KINDS[kind])
    offset = float(envelope(np.pad(one, RATE // 20)).argmax()) - RATE // 20
    size = round(SECONDS * RATE)
    wave = np.zeros(size)
    starts = np.cumsum(rng.uniform(*GAP, size=int(SECONDS / GAP[0])))
    starts = np.round(starts[starts < SECONDS - GAP[0]] * RATE).astype(int)
    for start in starts:
        wave[start : start + one.size] += one
    if noisy:
        hertz = np.fft.rfftfreq(size, 1 / RATE)
        wave += NOISE * coloured_noise(size, (1 / (1 + (hertz / 300) ** 2)).astype(np.float32), rng)
    return Crackled(wave.astype(np.float32), (starts + offset) / RATE)


def envelope(wave: np.ndarray) -> np.ndarray:
    """Magnitude of the analytic signal of ``(N,)`` samples, smoothed over 1 ms."""
    from scipy.signal import hilbert

    window = np.hanning(SMOOTH + 1)
    return np.convolve(np.abs(hilbert(wave)), window / window.sum(), mode="same")


def detect(wave: np.ndarray, count: int) -> np.ndarray:
    """Times (s) of peaks half as high as the typical one of the ``count`` tallest."""
    from scipy.signal import find_peaks

    curve = envelope(wave)
    places, found = find_peaks(curve, height=0.0, distance=round(WINDOW * RATE))
    heights = found["peak_heights"]
    if not heights.size:
        return np.zeros(0)
    return places[heights >= HEIGHT * np.median(np.sort(heights)[-count:])] / RATE


def timing(waves: Sequence[Crackled], reconstruct: Callable[[np.ndarray], np.ndarray]) -> Timing:
    """Errors over all waves, each crackle matched to the nearest peak within 20 ms."""
    errors: list[float] = []
    total = peaks = 0
    for item in waves:
        found = detect(reconstruct(item.wave), item.peaks.size)
        total, peaks = total + item.peaks.size, peaks + found.size
        if found.size:
            nearest = np.abs(found[None] - item.peaks[:, None]).min(axis=1)
            errors += nearest[nearest <= WINDOW].tolist()
    return Timing(
        median_ms=1000 * float(np.median(errors)) if errors else None,
        late_ms=1000 * float(np.percentile(errors, 95)) if errors else None,
        found=len(errors) / total,
        extra=(peaks - len(errors)) / total,
        crackles=total,
    )


def waves_of(count: int, seed: int) -> dict[str, list[Crackled]]:
    """``count`` waves for each kind, alone and over noise."""
    return {
        f"{kind}, {'over noise' if noisy else 'alone'}": [
            crackled(kind, noisy, derive(seed, "crackles", kind, noisy, index)) for index in range(count)
        ]
        for kind in KINDS
        for noisy in (False, True)
    }
