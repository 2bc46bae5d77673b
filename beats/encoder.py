"""The BEATs encoder: waveform → features on a time x frequency grid.

Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers" (2023), section 3. Lengths are exact:
a clip has as many columns as whole 16-frame columns fit into it, and what it is padded with never
changes its features.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beats.config import PATCH, ROWS, BeatsConfig
from beats.fbank import DEVIATION, fbank, frame_count, normalise, seconds_of, shortest
from beats.layers import Transformer
from resp229k.audio import RATE
from training.config import Strict
from training.errors import DataError
from training.model import Model


class BeatsOutput(NamedTuple):
    """Features ``(B, T, F, D)``, zero past a clip's end, and valid columns ``(B,)``."""

    features: Tensor
    columns: Tensor


class ConvStem(nn.Module):
    """Three convolutions over three views of the frames; the same grid as 16 x 16 patches.

    The views: normalised frames, frames less their mean over the clip (which removes a stationary device
    response), and the size of their change in time (which shows crackles).
    """

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 5, stride=(2, 4), padding=2)
        self.conv2 = nn.Conv2d(24, 48, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(48, width, (5, 3), stride=(4, 2), padding=(2, 1))

    def forward(self, frames: Tensor, columns: Tensor) -> Tensor:
        """Frames ``(B, 16 T, 128)`` (not normalised) and valid columns ``(B,)`` → ``(B, D, T, F)``."""

        def inside(x: Tensor) -> Tensor:
            """Zero what lies past a clip's last column: it then equals the convolution's padding."""
            per_column = x.shape[2] // (frames.shape[1] // PATCH)
            valid = torch.arange(x.shape[2], device=x.device) < per_column * columns[:, None]
            return x * valid[:, None, :, None]

        weight = (torch.arange(frames.shape[1], device=frames.device) < PATCH * columns[:, None])[..., None]
        mean = (frames * weight).sum(1, keepdim=True) / (PATCH * columns).clamp(min=1)[:, None, None]
        change = F.pad(frames.diff(dim=1).abs(), (0, 0, 1, 0))
        views = [normalise(frames), (frames - mean) / DEVIATION, change / DEVIATION]
        x = inside(torch.stack(views, dim=1))
        x = inside(F.gelu(self.conv1(x)))
        x = inside(F.gelu(self.conv2(x)))
        return self.conv3(x)


class BeatsEncoder(Model):
    """Filterbank, stem, transformer."""

    config_class: ClassVar[type[Strict]] = BeatsConfig

    def __init__(self, config: BeatsConfig):
        super().__init__(config)
        self.width = config.dim
        if config.stem == "patch":
            self.patch_embedding = nn.Conv2d(1, config.embed_dim, PATCH, stride=PATCH, bias=False)
        else:
            self.stem = ConvStem(config.embed_dim)
        self.conv_stem = config.stem == "conv"
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        # Published models project only where the widths differ.
        same = config.embed_dim == config.dim
        self.post_extract_proj = nn.Identity() if same else nn.Linear(config.embed_dim, config.dim)
        self.encoder = Transformer(config)

    def encode(self, wave: Tensor, lengths: Tensor) -> BeatsOutput:
        """Features of a padded batch.

        Args:
            wave: ``(B, N)``, 16 kHz, in [-1, 1].
            lengths: ``(B,)`` valid samples.

        Returns:
            features ``(B, T, 8, D)`` and columns ``(B,)``; 10 s give T = 62.

        Raises:
            DataError: a clip is shorter than one column (2,800 samples).
        """
        frames, counts = fbank(wave, lengths)
        return self.encode_frames(frames, counts)

    def encode_frames(self, frames: Tensor, counts: Tensor) -> BeatsOutput:
        """As :meth:`encode`, from filterbank frames ``(B, L, 128)`` (not normalised) and their counts."""
        columns = counts // PATCH
        if int(columns.min()) < 1:
            raise DataError(
                f"clip {int(columns.argmin())} of the batch has {int(counts.min())} frames, fewer than the "
                f"{PATCH} of one column",
                cure=f"give at least {shortest(PATCH)} samples ({seconds_of(PATCH)} s), or loop short clips",
            )
        longest = int(columns.max())
        frames = frames[:, : PATCH * longest]
        if self.conv_stem:
            grid = self.stem(frames, columns)
        else:
            grid = self.patch_embedding(normalise(frames)[:, None])
        # Time-major: every column's 8 rows stand together.
        tokens = self.post_extract_proj(self.layer_norm(grid.flatten(2).transpose(1, 2)))
        past = torch.arange(longest, device=frames.device) >= columns[:, None]
        ragged = bool(past.any())
        padding = past.repeat_interleave(ROWS, dim=1) if ragged else None
        features = self.encoder(tokens, padding).unflatten(1, (longest, ROWS))
        if ragged:
            features = features.masked_fill(past[:, :, None, None], 0.0)
        return BeatsOutput(features, columns)

    def forward(self, wave: Tensor, lengths: Tensor) -> BeatsOutput:
        """As :meth:`encode`."""
        return self.encode(wave, lengths)


def grid_shape(seconds: float) -> tuple[int, int]:
    """Columns and rows of a clip of ``seconds`` s; 10 s give (62, 8)."""
    return int(frame_count(torch.tensor(round(seconds * RATE)))) // PATCH, ROWS
