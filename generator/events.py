"""Crackles and wheezes of a clip, from its sound alone, and their distributions against those of real clips.

Signal processing without training: a judge can share the generator's mistakes, these cannot. How good they
are is measured where the truth is known: ``python benchmarks/events.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage, signal, stats

from generator.codec import level
from resp229k.audio import RATE

# Crackles. All values were chosen on simulated clips that no test holds.
BURST, TICK = 128, 16  # samples: bursts of 8 ms, 1 ms apart
CRACKLE_BAND = (150.0, 2000.0)  # Hz: above heart sounds and knocks, within most recorders
SLOW = 0.25  # s around a moment whose median is a frequency's level: flattens colour and steady tones
AROUND = 0.2  # s around a moment that a crackle has to stand out of
AROUND_SHARE = 35  # %: crackles may fill more than half of the time
CRACKLE_DB = 9.5  # above that
ALONE_DB = 5.0  # above the median of the 16 ms before and after: shorter than a syllable
APART = 8  # ms between two crackles
COUGH_DB = 12.0  # above the clip's median for 150 ms: no breath

# Tones.
WINDOW, HOP = 1024, 160  # samples: 64 ms, 10 ms apart
TONE_BAND = (100.0, 1600.0)  # Hz: below it heart sounds are lines too
BESIDE = 160.0  # Hz on either side that a tone has to stand out of
TONE_DB, MEAN_DB = 12.0, 18.0  # in each frame, and in the mean
JUMP = 0.03  # share of the pitch that it may move in 10 ms
SHORTEST = 0.08  # s, of a wheeze (CORSA 2000)
VOICES = 6  # lines followed at once


@dataclass(frozen=True)
class Tone:
    """A line of a wheeze, rhonchus or stridor: ``start``, ``end`` in s, median ``hertz``, mean height in dB."""

    start: float
    end: float
    hertz: float
    height: float


def crackles(wave: np.ndarray) -> np.ndarray:
    """Times (s) of crackles in a wave ``(N,)`` at 16 kHz, rising.

    The spectrum is flattened by its median over a quarter second, which takes away the breath's colour and
    steady tones. A crackle is a burst of 8 ms that stands out of the 0.2 s around it and of the moments just
    before and after it. What is loud for 150 ms is a cough or a voice and holds no crackles.
    """
    if wave.size < 0.5 * RATE:
        return np.zeros(0)
    hertz, times, power = _power(_flattened(wave), BURST, TICK)
    power = power[(hertz >= CRACKLE_BAND[0]) & (hertz <= CRACKLE_BAND[1])]
    coarse = 4  # the floor moves slowly
    size = round(AROUND * RATE / TICK / coarse)
    floor = ndimage.percentile_filter(power[:, ::coarse], AROUND_SHARE, size=(1, size))
    floor = np.repeat(floor, coarse, axis=1)[:, : power.shape[1]]
    height = 10 * np.log10((power / floor).mean(axis=0))
    found, _ = signal.find_peaks(height, height=CRACKLE_DB, distance=APART)
    beside = ndimage.median_filter(height, size=16, mode="nearest")
    before, after = (beside[np.clip(found + step, 0, height.size - 1)] for step in (-17, 18))
    found = found[height[found] - np.maximum(before, after) > ALONE_DB]
    return times[found[~_loud(wave, times[found])]]


def _power(wave: np.ndarray, window: int, hop: int, size: int | None = None) -> tuple[np.ndarray, ...]:
    """Frequencies (Hz), times (s) and power ``(F, T)`` of whole windows."""
    hertz, times, spectrum = signal.stft(
        wave, RATE, nperseg=window, noverlap=window - hop, nfft=size, boundary=None, padded=False
    )
    return hertz, times, np.abs(spectrum) ** 2 + 1e-14


def _flattened(wave: np.ndarray) -> np.ndarray:
    """The wave ``(N,)``, each frequency of it over its level at that time."""
    window, hop = 512, 128
    hertz, _, spectrum = signal.stft(wave, RATE, nperseg=window, noverlap=window - hop)
    inside = (hertz > 120) & (hertz < 2200)
    power = np.abs(spectrum[inside]) ** 2 + 1e-14
    usual = ndimage.median_filter(power, size=(1, round(SLOW * RATE / hop) | 1))
    flat = np.zeros_like(spectrum)
    flat[inside] = spectrum[inside] / np.sqrt(usual)
    return signal.istft(flat, RATE, nperseg=window, noverlap=window - hop)[1][: wave.size]


def _loud(wave: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which of the times lie within 20 ms of a cough or a voice."""
    hertz, centres, power = _power(wave, 512, HOP)
    loudness = 10 * np.log10(power[(hertz > 300) & (hertz < 1800)].mean(axis=0))
    lasting = ndimage.median_filter(loudness, size=15) - np.median(loudness) > COUGH_DB
    near = ndimage.maximum_filter1d(lasting.astype(np.int8), 5)
    return near[np.clip(np.searchsorted(centres, times), 0, centres.size - 1)] > 0


def wheezes(wave: np.ndarray) -> list[Tone]:
    """Lines of 80 ms and more in the spectrogram of a wave ``(N,)`` at 16 kHz, by start.

    A line is a peak over the median of its neighbourhood of 160 Hz on either side, followed from frame to
    frame. Harmonics and voices are lines of their own.
    """
    if wave.size < WINDOW:
        return []
    hertz, times, power = _power(wave, WINDOW, HOP, 2 * WINDOW)
    within = hertz <= TONE_BAND[1] + BESIDE
    loudness = 10 * np.log10(power[within])
    coarse = 4  # the neighbourhood's median is smooth
    size = round(2 * BESIDE / hertz[1] / coarse) | 1
    floor = ndimage.median_filter(loudness[::coarse], size=(size, 1))
    height = loudness - np.repeat(floor, coarse, axis=0)[: len(loudness)]
    height[(hertz[within] < TONE_BAND[0]) | (hertz[within] > TONE_BAND[1])] = -np.inf
    tones = []
    for first, rows, heights in _lines(height):
        if len(rows) * HOP >= SHORTEST * RATE and np.mean(heights) >= MEAN_DB:
            start = float(times[first])
            tones.append(
                Tone(
                    start,
                    start + len(rows) * HOP / RATE,
                    float(np.median(hertz[rows])),
                    float(np.mean(heights)),
                )
            )
    return sorted(tones, key=lambda tone: tone.start)


Line = tuple[int, list[int], list[float]]  # first frame, rows, heights in dB


def _lines(height: np.ndarray) -> list[Line]:
    """Peaks ``(F, T)`` joined over time; the strongest line takes its next peak first."""
    closed: list[Line] = []
    running: list[Line] = []
    for frame, column in enumerate(height.T):
        peaks, _ = signal.find_peaks(column, height=TONE_DB)
        free = peaks[np.argsort(-column[peaks])][:VOICES].tolist()
        kept = []
        for line in sorted(running, key=lambda line: -float(np.mean(line[2]))):
            last = line[1][-1]
            near = [row for row in free if abs(row - last) <= max(2.0, JUMP * last)]
            if near:
                row = min(near, key=lambda row: abs(row - last))
                free.remove(row)
                line[1].append(row)
                line[2].append(float(column[row]))
                kept.append(line)
            else:
                closed.append(line)
        running = kept + [(frame, [row], [float(column[row])]) for row in free]
    return closed + running


@dataclass(frozen=True)
class EventFigures:
    """What is heard in a clip.

    ``crackle_rate`` per s, ``wheeze_seconds`` with a tone, their ``wheeze_share`` of the clip, and the
    ``wheeze_hertz`` of its lowest strong line (NaN without a tone).
    """

    crackle_rate: float
    wheeze_seconds: float
    wheeze_share: float
    wheeze_hertz: float


def event_figures(wave: np.ndarray) -> EventFigures:
    """Crackles and tones of a wave ``(N,)`` at 16 kHz.

    Raises:
        AudioError: the wave is empty or silent.
    """
    level(wave)
    tones = wheezes(wave)
    seconds = float(sounding(tones, wave.size / RATE).sum() * HOP / RATE)
    return EventFigures(
        crackle_rate=len(crackles(wave)) / (wave.size / RATE),
        wheeze_seconds=seconds,
        wheeze_share=seconds / (wave.size / RATE),
        wheeze_hertz=_pitch(tones),
    )


def sounding(tones: Sequence[Tone], seconds: float) -> np.ndarray:
    """In which steps of 10 ms of a clip a tone sounds, bool."""
    steps = np.zeros(round(seconds * RATE) // HOP, dtype=bool)
    for tone in tones:
        steps[round(tone.start * RATE / HOP) : round(tone.end * RATE / HOP)] = True
    return steps


def _pitch(tones: Sequence[Tone]) -> float:
    """Median pitch, by duration, of lines that have no line of half the height or more below them."""
    lowest = [
        tone
        for tone in tones
        if not any(
            other.hertz < 0.9 * tone.hertz
            and other.height > 0.5 * tone.height
            and min(tone.end, other.end) - max(tone.start, other.start) > 0.5 * (tone.end - tone.start)
            for other in tones
        )
    ]
    steps = [round((tone.end - tone.start) * RATE / HOP) for tone in lowest]
    return float(np.median(np.repeat([tone.hertz for tone in lowest], steps))) if lowest else float("nan")


@dataclass(frozen=True)
class EventDistance:
    """How far a figure's distribution over generated clips lies from that over real ones.

    Attributes:
        wasserstein: in the figure's own unit.
        ks: largest difference of the distribution functions, 0 to 1.
        real_wasserstein: of real clips to those of other subjects, at the same counts; NaN with one subject.
        real_ks: the same.
        made: median over generated clips; NaN where none has the figure.
        real: median over real clips.
        n_made: generated clips that have the figure: a pitch needs a tone.
        n_real: real clips that have it.
    """

    wasserstein: float
    ks: float
    real_wasserstein: float
    real_ks: float
    made: float
    real: float
    n_made: int
    n_real: int


def event_faithfulness(
    made: Mapping[str, Sequence[EventFigures]],
    real: Mapping[str, Sequence[EventFigures]],
    subjects: Mapping[str, Sequence[str]],
    *,
    seed: int = 0,
    draws: int = 20,
) -> dict[str, dict[str, EventDistance]]:
    """Distances of each class's generated clips to its real ones, beside real to real.

    Few clips lie apart by chance alone. So each draw halves the real subjects, and holds both the one half and
    as many generated clips against the other half; distances are means over the draws.

    Args:
        made: figures of generated clips, by class.
        real: figures of real clips, by class.
        subjects: of the real clips, by class, in their order.
        seed: of the draws.
        draws: how many.

    Returns:
        class → name of the figure → distance, for classes that both sides hold.
    """
    rng = np.random.default_rng(seed)
    return {
        label: {
            field.name: _distance(
                np.array([getattr(one, field.name) for one in made[label]]),
                np.array([getattr(one, field.name) for one in real[label]]),
                np.array(subjects[label]),
                rng,
                draws,
            )
            for field in fields(EventFigures)
        }
        for label in made
        if label in real and len(made[label]) and len(real[label])
    }


def _distance(
    made: np.ndarray, real: np.ndarray, subjects: np.ndarray, rng: np.random.Generator, draws: int
) -> EventDistance:
    heard = np.isfinite(real)
    made, real, subjects = made[np.isfinite(made)], real[heard], subjects[heard]
    people = np.unique(subjects)
    found = []
    for _ in range(draws if len(people) > 1 and made.size else 0):
        first = np.isin(subjects, rng.permutation(people)[: len(people) // 2])
        a, b = real[first], real[~first]
        some = rng.choice(made, min(made.size, b.size), replace=False)
        found.append((*_apart(some, a), *_apart(b, a)))
    if found:
        values = np.mean(found, axis=0)
    else:
        values = np.array(
            [*(_apart(made, real) if made.size and real.size else (np.nan,) * 2), np.nan, np.nan]
        )
    return EventDistance(
        wasserstein=float(values[0]),
        ks=float(values[1]),
        real_wasserstein=float(values[2]),
        real_ks=float(values[3]),
        made=float(np.median(made)) if made.size else float("nan"),
        real=float(np.median(real)) if real.size else float("nan"),
        n_made=made.size,
        n_real=real.size,
    )


def _apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Wasserstein distance and Kolmogorov-Smirnov statistic."""
    return float(stats.wasserstein_distance(a, b)), float(stats.ks_2samp(a, b, method="asymp").statistic)
