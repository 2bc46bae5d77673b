"""A real clip as if another device had recorded it elsewhere: device response, room and noise floor, no network.

Both recordings are measured in the bands and frames of :mod:`generator.timbre`. What the lung does stays,
and stays in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, signal

from generator.codec import level
from generator.timbre import EDGES, HOP, QUIET, WINDOW
from generator.write import clip_name
from resp229k.audio import COMMENT, RATE, write_wav
from resp229k.corpus import Corpus
from training.files import write_json
from training.progress import track
from training.seeds import derive

if TYPE_CHECKING:
    from agent.nodes.clips import ClipRequest
    from agent.rooms import Made

RESTYLED = "restyled"  # what manifests give as the source

TAPS = 513  # of the device's filter: 31 Hz apart
CUT_DB, BOOST_DB = -40.0, 20.0  # least and most gain of the device's filter
CLEAN_DB = -12.0  # most that a noise floor is lowered: more would eat soft sounds
FIRST = round(0.002 * RATE)  # samples until the first reflection
ROOMS = (0.02, 0.5)  # s in which a room's sound falls by 60 dB
WETS = (0.0, 0.1, 0.2, 0.3, 0.45)  # energy of the room over that of the direct sound
DRY_DB = 0.1  # steeper by less than this per frame is no other room
PEAK = 0.98
CENTRES = np.sqrt(EDGES[1:] * EDGES[:-1])  # Hz: 24 bands
HERTZ = np.fft.rfftfreq(WINDOW, 1 / RATE)


@dataclass(frozen=True)
class Sound:
    """What is measured of a recording.

    Attributes:
        usual: power of its median frames in 24 bands ``(24,)``, dB: device and breath.
        floor: of its quiet frames ``(24,)``, dB: device and noise.
        fall: dB per 10 ms by which loudness falls when it falls fast: the room.
    """

    usual: np.ndarray
    floor: np.ndarray
    fall: float


def measure(wave: np.ndarray) -> Sound:
    """Measure a wave ``(N,)`` at 16 kHz."""
    power = np.abs(_stft(wave)) ** 2
    loudness = 10 * np.log10(power[EDGES[0] < HERTZ].sum(axis=0) + 1e-12)
    quiet = loudness <= np.percentile(loudness, QUIET)
    fall = float(np.percentile(-np.diff(loudness), 95))
    return Sound(_bands(np.median(power, axis=1)), _bands(power[:, quiet].mean(axis=1)), fall)


def restyle(clip: np.ndarray, style: np.ndarray, seed: int) -> np.ndarray:
    """Play the sounds of ``clip`` through the device, room and noise of ``style``.

    The device is the ratio of the two long-term spectra as a smooth minimum-phase filter, which
    keeps the steep first edge of a crackle. A room is added where loudness falls more slowly in
    ``style``; one that is in the clip cannot be taken out. The floor is lowered by 12 dB at most,
    or raised by noise of the colour that is missing. The level is that of ``style``.

    Args:
        clip: ``(N,)`` at 16 kHz.
        style: ``(M,)`` at 16 kHz.
        seed: of the noise and the room's reflections.

    Returns:
        ``(N,)`` float32 in [-1, 1].

    Raises:
        AudioError: one of them is empty or silent.
    """
    rng = np.random.default_rng(seed)
    loud = level(style)
    wave, wanted = clip.astype(np.float64) / level(clip), measure(style / loud)
    wave = _device(wave, wanted.usual - measure(wave).usual)
    wave = _room(wave, wanted.fall, rng)
    wave = _quieter(wave, wanted.floor)
    wave = _noisier(wave, wanted.floor, rng)
    wave *= loud / level(wave)
    peak = float(np.abs(wave).max())
    return (wave if peak <= PEAK else wave * (PEAK / peak)).astype(np.float32)


def _device(wave: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Filter with a gain in dB per band, causal and without delay."""
    return signal.oaconvolve(wave, _filter(np.clip(gain, CUT_DB, BOOST_DB)))[: wave.size]


def _filter(gain: np.ndarray) -> np.ndarray:
    """Minimum-phase filter ``(TAPS,)`` of a gain in dB per band ``(24,)``."""
    hertz = np.linspace(0, RATE / 2, 257)
    shape = 10 ** (np.interp(np.log2(np.maximum(hertz, 20.0)), np.log2(CENTRES), gain) / 20)
    return signal.minimum_phase(signal.firwin2(TAPS, hertz, shape, fs=RATE), n_fft=8 * 1024, half=False)


def _room(wave: np.ndarray, fall: float, rng: np.random.Generator) -> np.ndarray:
    """Reflections that decay as ``fall`` says, as many as bring the wave's own falls nearest to it."""
    if measure(wave).fall - fall < DRY_DB:
        return wave
    seconds = float(np.clip(60 / max(fall, 1e-3) * HOP / RATE, *ROOMS))
    count = round(seconds * RATE)
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[:FIRST] = 0.0
    tail /= max(float(np.sqrt(np.sum(tail**2))), 1e-12)
    echo = signal.oaconvolve(wave, tail)[: wave.size]
    tried = [wave + np.sqrt(wet) * echo for wet in WETS]
    return min(tried, key=lambda one: abs(measure(one).fall - fall))


def _quieter(wave: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Lower what lies at the noise floor to the wanted one; what stands above it keeps its power.

    A Wiener gain between the two floors, smoothed over neighbours so that no single bin rings.
    """
    now = measure(wave).floor
    share = 10 ** (np.clip(floor - now, CLEAN_DB, 0.0) / 10)
    if (share > 0.99).all():
        return wave
    keep, noise = (_bins(values)[:, None] for values in (share, 10 ** (now / 10)))
    spectrum = _stft(wave)
    power = ndimage.uniform_filter(np.abs(spectrum) ** 2, size=(3, 5), mode="nearest")
    gain = np.clip(1 - (1 - keep) * noise / np.maximum(power, 1e-12), keep, 1.0)
    _, clean = signal.istft(spectrum * np.sqrt(gain), RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)
    return np.asarray(clean)[: wave.size]


def _noisier(wave: np.ndarray, floor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise of the power that the floor lacks in each band."""
    lacking = 10 ** (floor / 10) - 10 ** (measure(wave).floor / 10)
    white = rng.standard_normal(wave.size)
    gain = 10 * np.log10(np.maximum(lacking, 1e-9)) - measure(white).floor
    return wave + signal.oaconvolve(white, _filter(gain))[: wave.size]


def _stft(wave: np.ndarray) -> np.ndarray:
    """``(F, T)``."""
    return np.asarray(signal.stft(wave, RATE, nperseg=WINDOW, noverlap=WINDOW - HOP)[2])


def _bands(power: np.ndarray) -> np.ndarray:
    """Power per bin ``(F,)`` → dB per band ``(24,)``; a band narrower than a bin has the nearest bin's."""
    place = np.digitize(HERTZ, EDGES) - 1
    rows = [np.flatnonzero(place == n) for n in range(CENTRES.size)]
    means = [
        power[row].mean() if row.size else power[np.abs(HERTZ - centre).argmin()]
        for row, centre in zip(rows, CENTRES, strict=True)
    ]
    return 10 * np.log10(np.array(means) + 1e-9)


def _bins(values: np.ndarray) -> np.ndarray:
    """Values per band ``(24,)`` → per bin ``(F,)``."""
    return np.interp(np.log2(np.maximum(HERTZ, 20.0)), np.log2(CENTRES), values)


def write_clips(
    requests: Sequence[ClipRequest], corpus: Corpus, task: str, folder: Path, seed: int
) -> list[Made]:
    """Restyle each request's donor with its reference; write WAV and provenance under ``folder/audio``.

    Raises:
        AudioError: a recording is missing, broken, empty or silent.
    """
    from agent.rooms import Made

    made = []
    for i, request in enumerate(track(requests, "restyle")):
        own = derive(seed, "restyle", i)
        wave = restyle(corpus.audio(request.donor), corpus.audio(request.reference), own)
        record = {
            "synthetic": True,
            "note": COMMENT,
            "backend": RESTYLED,
            "task": task,
            "label": request.label,
            "clip": request.donor.clip_id,
            "subject": request.donor.subject_id,
            "reference": request.reference.clip_id,
            "reference_subject": request.reference.subject_id,
            "seconds": wave.size / RATE,
            "seed": own,
        }
        path = folder / "audio" / f"{clip_name(record)}.wav"
        write_json(path.with_suffix(".json"), record)
        write_wav(path, wave, synthetic=True)
        made.append(Made(f"audio/{path.name}", wave.size / RATE))
    return made
