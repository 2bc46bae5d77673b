"""Audio I/O: everything is 16 kHz mono float32 in [-1, 1] once it is past this module."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import soundfile as sf
import soxr
from pydantic import Field

from training.config import Strict
from training.errors import AudioError

RATE = 16_000  # Hz
SILENCE = 1e-5  # peak below which a recording holds no sound (-100 dBFS)
FADE = RATE // 50  # samples of cross-fade between repetitions, 20 ms
COMMENT = "synthetic respiratory sound made by Resp-Agent; not a recording of a person"


class Preprocess(Strict):
    """How a clip becomes a model's input. Part of every feature-cache key.

    ``fit`` says what happens to a clip shorter than ``seconds``: ``loop`` repeats it, so that its
    annotated length cannot be read from the padding; ``mask`` keeps the real length. Longer clips
    are cut around their middle. ``bandwidth`` (Hz) removes what lies above it, so that the
    recorder's sample rate cannot be read either.
    """

    seconds: float = Field(default=4.0, gt=0)
    fit: Literal["loop", "mask"] = "mask"
    bandwidth: float | None = Field(default=None, gt=0, lt=RATE / 2)


def read_audio(path: Path, start: float = 0.0, end: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a file, or the stretch ``start``..``end`` (s) of it, to mono float32 at its own rate.

    Returns:
        samples ``(N,)`` and the sample rate in Hz.

    Raises:
        AudioError: missing, undecodable, empty, or without finite samples.
    """
    if not path.is_file():
        raise AudioError("no such recording", path=path, cure="check the path, or put the recording back")
    try:
        with sf.SoundFile(path) as file:
            rate = int(file.samplerate)
            file.seek(min(round(start * rate), file.frames))
            frames = -1 if end is None else max(0, round(end * rate) - round(start * rate))
            samples = file.read(frames, dtype="float32", always_2d=True)
    except (sf.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"cannot be decoded ({error})", path=path, cure="re-export it as WAV or FLAC"
        ) from error
    mono = samples.mean(axis=1, dtype=np.float32)
    if mono.size == 0:
        raise AudioError("holds no samples", path=path, cure="remove it or record it again")
    if not np.isfinite(mono).all():
        raise AudioError("holds NaN or infinite samples", path=path, cure="re-export it")
    return mono, rate


def load_audio(
    path: Path, start: float = 0.0, end: float | None = None, *, silent_ok: bool = False
) -> np.ndarray:
    """Decode to 16 kHz mono float32 ``(N,)``.

    Raises:
        AudioError: as :func:`read_audio`, or silent while ``silent_ok`` is off.
    """
    mono, rate = read_audio(path, start, end)
    if not silent_ok and float(np.abs(mono).max()) < SILENCE:
        raise AudioError("is silent", path=path, cure="remove it or record it again")
    return resample(mono, rate, RATE)


def resample(wave: np.ndarray, source: float, target: float) -> np.ndarray:
    """Band-limited resampling (soxr, high quality) of ``(N,)`` samples."""
    if source == target:
        return wave.astype(np.float32, copy=False)
    return soxr.resample(wave, source, target, quality="HQ").astype(np.float32)


def prepare(wave: np.ndarray, how: Preprocess) -> np.ndarray:
    """Apply :class:`Preprocess` to a 16 kHz wave ``(N,)``; the result has at most ``seconds`` s."""
    if how.bandwidth is not None:
        narrow = resample(wave, RATE, 2 * how.bandwidth)
        wave = np.resize(resample(narrow, 2 * how.bandwidth, RATE), wave.shape)
    size = round(how.seconds * RATE)
    if wave.size > size:
        first = (wave.size - size) // 2
        return wave[first : first + size]
    if how.fit == "loop" and wave.size < size:
        return loop(wave, size)
    return wave


def loop(wave: np.ndarray, size: int) -> np.ndarray:
    """Repeat ``(N,)`` samples to ``(size,)``, each end blended over 20 ms into the next beginning.

    A hard splice would click like a crackle, once per length of the clip.
    """
    fade = min(FADE, wave.size // 2)
    rise = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    seam = wave[:fade] * rise + wave[wave.size - fade :] * (1 - rise)
    period = np.concatenate([seam, wave[fade : wave.size - fade]])
    return np.tile(period, -(-size // period.size))[:size]


def write_wav(path: Path, wave: np.ndarray, *, synthetic: bool, rate: int = RATE) -> None:
    """Write 16-bit PCM WAV or FLAC; a synthetic one says so in its INFO tag.

    Raises:
        AudioError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with sf.SoundFile(path, "w", samplerate=rate, channels=1, subtype="PCM_16") as file:
            if synthetic:
                file.comment = COMMENT
            file.write(np.clip(wave, -1.0, 1.0))
    except sf.LibsndfileError as error:
        raise AudioError(
            f"cannot be written ({error})",
            path=path,
            cure="check the folder's permissions and the free space",
        ) from error


def is_tagged_synthetic(path: Path) -> bool:
    """Whether a file carries the synthetic INFO tag."""
    with sf.SoundFile(path) as file:
        return file.comment == COMMENT
