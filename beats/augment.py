"""Augmentation of log-power spectra: another recorder, another level, another noise floor.

Only the recording changes, never the sound: what a stethoscope, a room or a sample rate can do to a
breath. Draws come from torch's global generator, which training seeds per batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

DB = math.log(10) / 10  # natural log power per decibel


def augment(frames: Tensor, floor: float) -> Tensor:
    """Randomly change the device of log-power frames ``(B, L, M)``, bins from low to high.

    ``floor`` is the log power of a bin without sound.
    """
    batch, _, bins = frames.shape
    gain = (torch.rand(batch, 1) * 24 - 12) * DB
    knots = torch.randn(batch, 1, 8) * 5 * DB
    response = F.interpolate(knots, size=bins, mode="linear", align_corners=True)[:, 0]
    heard = frames + (gain + response)[:, None]
    return torch.logaddexp(_low_pass(heard, floor), _noise(heard, floor))


def _low_pass(frames: Tensor, floor: float) -> Tensor:
    """A quarter of the clips lose what lies above a random bin, as a lower sample rate would have it."""
    batch, _, bins = frames.shape
    cut = (torch.rand(batch, 1) * 0.6 + 0.4) * bins
    lost = (torch.rand(batch, 1) < 0.25) & (torch.arange(bins) > cut)
    return torch.where(lost[:, None], frames.new_tensor(floor), frames)


def _noise(frames: Tensor, floor: float) -> Tensor:
    """Stationary noise 10 to 40 dB below the clip's mean level for half of the clips, else next to none."""
    batch, length, bins = frames.shape
    level = frames.mean(dim=(1, 2)) - (torch.rand(batch) * 30 + 10) * DB + 5 * DB
    level = torch.where(torch.rand(batch) < 0.5, level, level.new_tensor(floor - 3))
    tilt = torch.randn(batch, 1) * 6 * DB * torch.linspace(-1, 1, bins)
    # The power of Gaussian noise in one bin follows an exponential distribution.
    power = -torch.log(torch.rand(batch, length, bins).clamp(1e-6, 1 - 1e-6))
    return power.log() + (level[:, None] + tilt)[:, None]


def roll(frames: Tensor, longest: int) -> Tensor:
    """Rotate every clip ``(B, L, M)`` in time by up to ``longest`` frames either way."""
    shifts = torch.randint(-longest, longest + 1, (frames.shape[0],)).tolist()
    return torch.stack([clip.roll(shift, 0) for clip, shift in zip(frames, shifts, strict=True)])
