"""Kaldi's log-mel filterbank in batched torch, as BEATs takes it (BEATs, section 4.1).

128 bins, 25 ms Povey window, 10 ms shift, snipped edges, pre-emphasis 0.97, DC removal, no dither, samples
scaled by 2^15. With snipped edges no frame reaches past a clip's last sample, so padding never changes a
valid frame.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from beats.config import BINS
from resp229k.audio import RATE
from training.errors import DataError

WINDOW = 400  # samples, 25 ms
SHIFT = 160  # samples, 10 ms
FFT = 512
MEAN, DEVIATION = 15.41663, 6.55582  # of the published model's training data
LOW = 20.0  # Hz, lower edge of the first bin


def frame_count(samples: Tensor) -> Tensor:
    """Frames of clips of ``samples`` samples each, edges snipped; 0 below one window."""
    return torch.where(samples < WINDOW, 0, 1 + (samples - WINDOW).clamp(min=0) // SHIFT)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # what is kept must also serve gradients, whoever asked first
def _banks(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Povey window ``(400,)`` and triangular mel weights ``(257, 128)``."""
    # Rounded at every step, as published: bins some 60 dB below a frame's loudest, such as those above 4 kHz
    # of a recording made at 8 kHz, hold rounding only, and are up to a nat apart with another window.
    window = torch.hann_window(WINDOW, periodic=False, dtype=dtype) ** 0.85
    low, high = _mel(torch.tensor([LOW, RATE / 2], dtype=torch.float64))
    edges = low + (high - low) / (BINS + 1) * torch.arange(BINS + 2, dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    mel = _mel(RATE / FFT * torch.arange(FFT // 2 + 1, dtype=torch.float64))[:, None]
    weights = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0)
    weights[-1] = 0  # Kaldi leaves the Nyquist bin out
    return window.to(device, dtype), weights.to(device, dtype)


def fbank(wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Log-mel frames of a padded batch.

    Args:
        wave: ``(B, N)`` float, 16 kHz, in [-1, 1].
        lengths: ``(B,)`` valid samples of each clip.

    Returns:
        frames ``(B, L, 128)``, those past a clip's end set to 0, and frame counts ``(B,)``. Frames are
        float32, float64 for a float64 wave; gradients reach the wave.

    Raises:
        DataError: the lengths are not one per clip, or exceed the wave.
    """
    if wave.ndim != 2 or lengths.shape != wave.shape[:1]:
        raise DataError(
            f"a batch of waves (B, N) and its lengths (B,) are needed, not {tuple(wave.shape)} "
            f"and {tuple(lengths.shape)}"
        )
    if int(lengths.max()) > wave.shape[1]:
        raise DataError(f"a length of {int(lengths.max())} samples in a batch of {wave.shape[1]}")
    # Half precision holds neither the squared spectrum nor the small differences of its bins.
    dtype = torch.promote_types(wave.dtype, torch.float32)
    counts = frame_count(lengths.to(wave.device))
    total = int(counts.max())
    if total == 0:
        return wave.new_zeros(wave.shape[0], 0, BINS, dtype=dtype), counts
    window, weights = _banks(wave.device, dtype)
    frames = wave.to(dtype).unfold(1, WINDOW, SHIFT)[:, :total] * 32768.0
    frames = frames - frames.mean(dim=-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    spectrum = torch.fft.rfft((frames - 0.97 * before) * window, n=FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    mel = (power @ weights).clamp(min=torch.finfo(torch.float32).eps).log()
    valid = torch.arange(total, device=wave.device) < counts[:, None]
    return mel.masked_fill(~valid[..., None], 0.0), counts


def normalise(frames: Tensor) -> Tensor:
    """The published normalisation of filterbank frames."""
    return (frames - MEAN) / (2 * DEVIATION)


def shortest(frames: int) -> int:
    """Samples that give ``frames`` frames."""
    return WINDOW + (frames - 1) * SHIFT


def seconds_of(frames: int) -> float:
    """Seconds that give ``frames`` frames, rounded up to a millisecond."""
    return math.ceil(1000 * shortest(frames) / RATE) / 1000
