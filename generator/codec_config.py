"""Configs of the acoustic codecs. This module imports no torch, so that the command line can read it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from resp229k.audio import RATE
from training.config import Strict


class MelConfig(Strict):
    """Log-mel, no weights. Eight hops of 320 samples are one 160 ms column of the unit grid."""

    kind: Literal["mel"] = "mel"
    n_fft: int = Field(default=1024, gt=0)  # samples
    hop: int = Field(default=320, gt=0)  # samples
    mels: int = Field(default=80, gt=0)
    fmax: float = Field(default=8000.0, gt=0, le=8000.0)  # Hz
    rms: float = Field(default=0.05, gt=0)  # every wave is brought to this level before the mel
    floor: float = Field(default=1e-4, gt=0)  # magnitudes below it are noise of the decoder's making
    ceiling: float = 5.0  # log magnitude
    mean: float = -6.2  # of the log-mel over simulated and real clips, so that frames are about standard
    std: float = Field(default=2.5, gt=0)
    iterations: int = Field(default=16, ge=1)  # of the inversion

    @model_validator(mode="after")
    def _overlaps(self) -> Self:
        if self.n_fft % 2 or self.hop >= self.n_fft:
            raise ValueError("n_fft must be even and above hop, so that windows overlap")
        return self

    @property
    def dim(self) -> int:
        """M, values of a frame."""
        return self.mels

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return RATE / self.hop


class VocosConfig(Strict):
    """Log-mel at 24 kHz and the Vocos vocoder (Siuzdak 2023), whose published weights decode it."""

    kind: Literal["vocos"] = "vocos"
    weights: str | None = None  # folder with config.yaml and pytorch_model.bin or model.safetensors
    rate: int = Field(default=24_000, gt=0)  # Hz
    n_fft: int = Field(default=1024, gt=0)  # samples
    hop: int = Field(default=256, gt=0)  # samples
    mels: int = Field(default=100, gt=0)
    padding: Literal["center", "same"] = "center"  # "same": frames lie between hops, not on them
    rms: float = Field(default=0.05, gt=0)  # every wave is brought to this level before the mel
    ceiling: float = 7.0  # log magnitude
    empty: float = -14.0  # log magnitude of bands above the recordings' 8 kHz: rounding, as measured
    mean: float = -3.0  # of the log-mel up to 8 kHz over real clips, so that frames are about standard
    std: float = Field(default=2.0, gt=0)

    @property
    def dim(self) -> int:
        """M, values of a frame: bands of the HTK mel scale with their peak within the recordings' 8 kHz."""
        ratio = math.log1p(RATE / 2 / 700) / math.log1p(self.rate / 2 / 700)
        return min(self.mels, math.floor(ratio * (self.mels + 1)))

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.rate / self.hop


class EncodecConfig(Strict):
    """Continuous latents of EnCodec (Défossez et al. 2022), before its quantiser."""

    kind: Literal["encodec"] = "encodec"
    weights: str | None = None  # folder of a transformers EncodecModel
    rate: int = Field(default=24_000, gt=0)  # Hz
    hop: int = Field(default=320, gt=0)  # samples
    dim: int = Field(default=128, gt=0)  # M, values of a frame
    rms: float = Field(default=0.05, gt=0)  # every wave is brought to this level before the encoder
    mean: float | tuple[float, ...] = (
        0.0  # of the latents, so that frames are about standard; or of each value
    )
    std: float | tuple[float, ...] = 1.0
    quantise: bool = False  # whether frames pass the model's quantiser before they become sound

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and len(value) != self.dim:
                raise ValueError(f"{name} has {len(value)} values, not {self.dim}")
        if min(self.std if isinstance(self.std, tuple) else (self.std,)) <= 0:
            raise ValueError("std must be above 0")
        return self

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.rate / self.hop


def _kind(value: Any) -> str:
    """Which codec a mapping means; the first weights were written before there was a choice."""
    return str(value.get("kind", "mel") if isinstance(value, dict) else getattr(value, "kind", ""))


CodecConfig = Annotated[
    Annotated[MelConfig, Tag("mel")]
    | Annotated[VocosConfig, Tag("vocos")]
    | Annotated[EncodecConfig, Tag("encodec")],
    Discriminator(
        _kind, custom_error_type="codec", custom_error_message="must be a codec of kind mel, vocos or encodec"
    ),
]
