"""Acoustic codecs: waveform ↔ frames. The default is a log-mel, whose inversion needs no weights."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from generator.codec_config import CodecConfig, MelConfig
from resp229k.audio import RATE
from training.errors import AudioError, NonFiniteError

PEAK = 0.99  # of a wave at a level that would clip
SILENT = 1e-7  # root mean square below which a wave has no level


class Codec(Protocol):
    """What the flow decoder needs of a codec.

    Waves ``(N,)`` are 16 kHz float32. Frames ``(L, M)`` are float32, about standard, ``M = config.dim``
    values each, ``config.frame_rate`` of them a second, which need be no integer. A wave is brought to a
    fixed level first, so that frames speak of sound and not of gain; whoever decodes sets the level it wants.
    """

    @property
    def config(self) -> CodecConfig:
        """What the codec was made from."""
        ...

    def length(self, samples: int) -> int:
        """L, frames of a wave with ``samples`` samples, in all ``ceil(samples / 16 kHz · frame_rate)``."""
        ...

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """Wave ``(N,)`` → normalised frames ``(L, M)``.

        Raises:
            AudioError: the wave is empty or silent.
        """
        ...

    def decode(self, frames: np.ndarray, *, samples: int | None = None, seed: int = 0) -> np.ndarray:
        """Normalised frames ``(L, M)`` → wave ``(N,)``, ``N = samples`` or as long as the frames reach."""
        ...


def make_codec(config: CodecConfig) -> Codec:
    """The codec of a config, with its weights where it has some.

    Raises:
        CheckpointError: weights are missing, or do not fit.
    """
    if config.kind == "mel":
        return MelCodec(config)
    if config.kind == "vocos":
        from generator.vocos import VocosCodec  # the networks' modules build on this one

        return VocosCodec(config)
    from generator.encodec import EncodecCodec

    return EncodecCodec(config)


def level(wave: np.ndarray) -> float:
    """Root mean square of a wave.

    Raises:
        AudioError: the wave is empty or silent, so that it has no level to normalise by.
    """
    rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if wave.size else 0.0
    if rms < SILENT:
        raise AudioError("the wave is empty or silent", cure="choose a recording that holds sound")
    return rms


def at_level(wave: np.ndarray, rms: float) -> np.ndarray:
    """Scale a wave to a root mean square, or less where its peak would clip.

    Raises:
        AudioError: the wave is silent, so that it cannot be scaled.
        NonFiniteError: it holds samples that are no numbers.
    """
    other = "use other weights, or guidance and temperature nearer to the defaults"
    if not np.isfinite(wave).all():
        raise NonFiniteError("the generator gave samples that are no numbers", cure=other)
    if not np.square(wave, dtype=np.float64).mean() > SILENT**2:
        raise AudioError("the generator gave silence", cure=other)
    gain = min(rms / level(wave), PEAK / float(np.abs(wave).max()))
    return (wave * gain).astype(np.float32)


def frames_of(samples: int, rate: int, hop: int) -> int:
    """Frames that cover ``samples`` at 16 kHz, ``hop`` samples of ``rate`` Hz apart."""
    return -(-samples * rate // (RATE * hop))


@lru_cache(maxsize=4)
def _filters(n_fft: int, mels: int, fmax: float) -> np.ndarray:
    """Slaney mel filters ``(M, n_fft / 2 + 1)``."""
    import librosa  # slow to import, and only needed once audio is touched

    return librosa.filters.mel(sr=RATE, n_fft=n_fft, n_mels=mels, fmax=fmax).astype(np.float32)


class MelCodec:
    """Log-mel frames; inversion by :func:`generator.codec_inverse.invert`."""

    def __init__(self, config: MelConfig | None = None):
        self.config = config or MelConfig()

    @cached_property
    def filters(self) -> np.ndarray:
        """Mel filters ``(M, bins)``."""
        return _filters(self.config.n_fft, self.config.mels, self.config.fmax)

    def length(self, samples: int) -> int:
        """Frames of a wave with ``samples`` samples."""
        return -(-samples // self.config.hop)

    def encode(self, wave: np.ndarray) -> np.ndarray:
        """Wave ``(N,)`` at 16 kHz → normalised log-mel ``(L, M)`` float32, ``L = ceil(N / hop)``.

        Frame ``l`` is centred at sample ``l · hop``.

        Raises:
            AudioError: the wave is empty or silent.
        """
        import librosa

        c = self.config
        spectrum = librosa.stft(
            wave / level(wave) * c.rms, n_fft=c.n_fft, hop_length=c.hop, pad_mode="constant"
        )
        mel = self.filters @ np.abs(spectrum[:, : self.length(wave.size)])
        return ((np.log(np.maximum(mel, c.floor)).T - c.mean) / c.std).astype(np.float32)

    def decode(self, frames: np.ndarray, *, samples: int | None = None, seed: int = 0) -> np.ndarray:
        """Normalised log-mel ``(L, M)`` → wave float32, cut to ``samples`` (default ``L · hop``).

        ``seed`` sets the noise that the sound is made of, so that a clip can be made again.
        """
        from generator.codec_inverse import invert

        c = self.config
        # Ten natural-log units above the loudest real frame is a broken prediction, not sound:
        # bounding it keeps one bad cell from scaling the whole clip to silence.
        mel = np.exp(np.clip(frames * c.std + c.mean, np.log(c.floor), c.ceiling))
        return invert(mel, self.filters, c.hop, iterations=c.iterations, seed=seed)[:samples]
