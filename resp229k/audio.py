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
CONTAINERS = frozenset({".webm", ".m4a", ".mp4"})  # libsndfile reads none of them
GAP = 0.2  # s between two blocks of a container; beyond jitter, the decoder left out what it could not read
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

    WebM, M4A and MP4 go through PyAV, everything else through libsndfile.

    Returns:
        samples ``(N,)`` and the sample rate in Hz.

    Raises:
        AudioError: missing, undecodable, empty, without finite samples, or of a container that needs
            PyAV where that is not installed.
    """
    if not path.is_file():
        raise AudioError("no such recording", path=path, cure="check the path, or put the recording back")
    read = _read_container if path.suffix.lower() in CONTAINERS else _read_soundfile
    samples, rate = read(path, start, end)
    mono = samples.mean(axis=1, dtype=np.float32)
    if mono.size == 0:
        raise AudioError("holds no samples", path=path, cure="remove it or record it again")
    if not np.isfinite(mono).all():
        raise AudioError("holds NaN or infinite samples", path=path, cure="re-export it")
    return mono, rate


def _read_soundfile(path: Path, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """Samples ``(N, channels)`` and rate in Hz of what libsndfile reads."""
    try:
        with sf.SoundFile(path) as file:
            rate = int(file.samplerate)
            file.seek(min(round(start * rate), file.frames))
            frames = -1 if end is None else max(0, round(end * rate) - round(start * rate))
            return file.read(frames, dtype="float32", always_2d=True), rate
    except (sf.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"cannot be decoded ({error})", path=path, cure="re-export it as WAV or FLAC"
        ) from error


def _read_container(path: Path, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """Samples ``(N, channels)`` and rate in Hz of the first audio stream.

    Decoded from its beginning, whatever the stretch: seeking lands on packets, not on samples.
    """
    try:
        import av
    except ImportError as error:
        cure = "pip install 'resp-agent-lab[webm]', or re-export it as WAV or FLAC"
        raise AudioError(f"needs PyAV ({error})", path=path, cure=cure) from error
    blocks, rate, due = [], RATE, None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp")  # same rate and channels, as floats
            for frame in container.decode(stream):
                if due is not None and frame.time is not None and frame.time - due > GAP:
                    lost = f"lacks a stretch ({frame.time - due:.2f} s at {due:.2f} s)"
                    raise AudioError(lost, path=path, cure="remove it or download it again")
                rate = frame.sample_rate
                due = None if frame.time is None else frame.time + frame.samples / rate
                blocks += [part.to_ndarray() for part in planar.resample(frame)]
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise AudioError(
            f"cannot be decoded ({error})", path=path, cure="re-export it as WAV or FLAC"
        ) from error
    samples = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.float32)
    last = None if end is None else round(end * rate)
    return samples.T[round(start * rate) : last], rate


def load_audio(
    path: Path, start: float = 0.0, end: float | None = None, *, silent_ok: bool = False
) -> np.ndarray:
    """Decode to 16 kHz mono float32 ``(N,)``.

    Raises:
        AudioError: as :func:`read_audio`, shorter than a sample at 16 kHz, or silent while ``silent_ok`` is off.
    """
    mono, rate = read_audio(path, start, end)
    if not silent_ok and float(np.abs(mono).max()) < SILENCE:
        raise AudioError("is silent", path=path, cure="remove it or record it again")
    wave = resample(mono, rate, RATE)
    if not wave.size:
        raise AudioError(
            f"holds less than a sample of {RATE} Hz", path=path, cure="remove it or record it again"
        )
    return wave


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
