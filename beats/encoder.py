"""The BEATs encoder: waveform → features on a time x frequency grid.

Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers" (2023), section 3. Lengths are exact:
a clip has as many columns as whole 16-frame columns fit into it, and what it is padded with never
changes its features. The published code masks otherwise; ``mask_mode="official"`` follows it, for
comparisons with it only.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from beats.config import PATCH, ROWS, BeatsConfig
from beats.fbank import DEVIATION, fbank, frame_count, normalise, seconds_of, shortest
from beats.layers import Transformer
from resp229k.audio import RATE
from training.config import Strict
from training.errors import ConfigError, DataError
from training.model import Model

MaskMode = Literal["exact", "official"]


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

    def forward(self, frames: Tensor, columns: Tensor, seen: Tensor | None = None) -> Tensor:
        """Frames to tokens.

        Args:
            frames: ``(B, 16 T, 128)``, not normalised.
            columns: valid ones ``(B,)``.
            seen: patches ``(B, T, F)`` bool, none of them past a clip's end; the others' frames change
                nothing. None: all up to a clip's end.

        Returns:
            ``(B, D, T, F)``.
        """

        def within(length: int) -> Tensor:
            """Which of ``length`` steps lie in a clip's columns, ``(B, length)``."""
            per_column = length // (frames.shape[1] // PATCH)
            return torch.arange(length, device=frames.device) < per_column * columns[:, None]

        def inside(x: Tensor) -> Tensor:
            """Zero what lies past a clip's last column: it then equals the convolution's padding."""
            return x * within(x.shape[2])[:, None, :, None]

        if seen is None:
            known = within(frames.shape[1])[..., None]
        else:
            known = seen.repeat_interleave(PATCH, dim=1).repeat_interleave(PATCH, dim=2)
        frames = frames.masked_fill(~known, 0.0)
        mean = frames.sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
        # A patch's first change would tell of the patch before it.
        change = F.pad(frames.diff(dim=1).abs() * (known[:, 1:] & known[:, :-1]), (0, 0, 1, 0))
        views = [normalise(frames), (frames - mean) / DEVIATION, change / DEVIATION]
        x = torch.stack(views, dim=1) * known[:, None]
        x = inside(F.gelu(self.conv1(x)))
        x = inside(F.gelu(self.conv2(x)))
        return self.conv3(x)


class BeatsEncoder(Model):
    """Filterbank, stem, transformer."""

    config_class: ClassVar[type[Strict]] = BeatsConfig
    config: BeatsConfig

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

    @classmethod
    def from_official(cls, path: Path) -> Self:
        """Read the encoder of a published checkpoint, pre-trained or fine-tuned, in eval mode.

        The head of a fine-tuned model is left aside, which ``provenance.notes`` says;
        :class:`beats.classifier.BeatsClassifier` reads it too.

        Raises:
            CheckpointError: the file does not hold exactly one encoder; names the keys.
        """
        # Imported here: it needs this module.
        from beats.official import fill, read_official

        file = read_official(path, "encoder")
        encoder = cls(file.config)
        fill(file, encoder)
        return encoder.eval()

    def encode(self, wave: Tensor, lengths: Tensor, mask_mode: MaskMode = "exact") -> BeatsOutput:
        """Features of a padded batch.

        Args:
            wave: ``(B, N)``, 16 kHz, in [-1, 1].
            lengths: ``(B,)`` valid samples.
            mask_mode: ``exact``, or ``official`` to equal the published code given a padding mask. That
                reads the padding (give zeros), makes T of N, and masks tokens, not whole columns; then
                nothing is zeroed, and ``columns`` counts the columns with a valid token.

        Returns:
            features ``(B, T, 8, D)`` and columns ``(B,)``; 10 s give T = 62.

        Raises:
            ConfigError: no such mask mode, or ``official`` with another stem than the published one.
            DataError: a clip is shorter than one column (2,800 samples).
        """
        if mask_mode == "official":
            return self._encode_official(wave, lengths)
        if mask_mode != "exact":
            raise ConfigError(f"no mask mode {mask_mode!r}", cure="use exact or official")
        frames, counts = fbank(wave, lengths)
        return self.encode_frames(frames, counts)

    def encode_frames(self, frames: Tensor, counts: Tensor) -> BeatsOutput:
        """As :meth:`encode`, from filterbank frames ``(B, L, 128)`` (not normalised) and their counts."""
        tokens, columns = self._tokens(frames, counts)
        longest = tokens.shape[1] // ROWS
        past = torch.arange(longest, device=frames.device) >= columns[:, None]
        ragged = bool(past.any())
        padding = past.repeat_interleave(ROWS, dim=1) if ragged else None
        features = self.encoder(tokens, padding).unflatten(1, (longest, ROWS))
        if ragged:
            features = features.masked_fill(past[:, :, None, None], 0.0)
        return BeatsOutput(features, columns)

    def encode_visible(self, frames: Tensor, counts: Tensor, kept: Tensor) -> Tensor:
        """Features ``(B, K, D)`` of some tokens alone; the others change nothing (section 3.3).

        Args:
            frames: filterbank frames ``(B, L, 128)``, not normalised.
            counts: of frames ``(B,)``.
            kept: ``(B, K)`` int64, ascending flat token indices (8 · column + row).

        Raises:
            DataError: a clip is shorter than one column, or a kept token lies past a clip's end.
        """
        if bool((kept >= ROWS * (counts[:, None] // PATCH)).any()):
            raise DataError("a token to keep lies past its clip's end")
        tokens, _ = self._tokens(frames, counts, kept)
        return self.encoder(tokens, None, kept)

    def _tokens(self, frames: Tensor, counts: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens ``(B, 8 T, D)``, time-major, and columns ``(B,)``; with ``kept`` only those are right."""
        columns = counts // PATCH
        if int(columns.min()) < 1:
            raise DataError(
                f"clip {int(columns.argmin())} of the batch has {int(counts.min())} frames, fewer than the "
                f"{PATCH} of one column",
                cure=f"give at least {shortest(PATCH)} samples ({seconds_of(PATCH)} s), or loop short clips",
            )
        frames = frames[:, : PATCH * int(columns.max())]
        dtype = self.layer_norm.weight.dtype
        if self.conv_stem:
            seen = None
            if kept is not None:
                shape = len(frames), frames.shape[1] // PATCH * ROWS
                seen = torch.zeros(shape, dtype=torch.bool, device=frames.device).scatter(1, kept, True)
                seen = seen.unflatten(1, (-1, ROWS))
            grid = self.stem(frames.to(dtype), columns, seen)
        else:
            grid = self.patch_embedding(normalise(frames).to(dtype)[:, None])
        # Time-major: every column's 8 rows stand together.
        return self.post_extract_proj(self.layer_norm(grid.flatten(2).transpose(1, 2))), columns

    def _encode_official(self, wave: Tensor, lengths: Tensor) -> BeatsOutput:
        if self.conv_stem:
            raise ConfigError("official masks belong to the patch stem", cure="use mask_mode exact")
        if int(lengths.min()) < 1:
            raise DataError(f"clip {int(lengths.argmin())} of the batch has no samples")
        frames, counts = fbank(wave, torch.full_like(lengths, wave.shape[1]))
        tokens, _ = self._tokens(frames, counts)
        valid = official_tokens(lengths, wave.shape[1]).to(wave.device)
        padding = torch.arange(tokens.shape[1], device=wave.device) >= valid[:, None]
        features = self.encoder(tokens, padding).unflatten(1, (-1, ROWS))
        return BeatsOutput(features, -(-valid // ROWS))

    def forward(self, wave: Tensor, lengths: Tensor, mask_mode: MaskMode = "exact") -> BeatsOutput:
        """As :meth:`encode`."""
        return self.encode(wave, lengths, mask_mode)


def grid_shape(seconds: float) -> tuple[int, int]:
    """Columns and rows of a clip of ``seconds`` s; 10 s give (62, 8)."""
    return int(frame_count(torch.tensor(round(seconds * RATE)))) // PATCH, ROWS


def official_tokens(lengths: Tensor, samples: int) -> Tensor:
    """Tokens ``(B,)`` that the published mask leaves valid in a batch padded to ``samples`` samples.

    It deals the samples evenly to the frames and the frames to the flat tokens, the rest dropped, and
    masks what gets padding alone. 2 s padded to 10 s keep 100 tokens, which is 12.5 columns.
    """
    frames = int(frame_count(torch.tensor(samples)))
    tokens = frames // PATCH * ROWS
    span = (samples // frames) * (frames // tokens)  # samples of a token
    return (-(-lengths // span)).clamp(max=tokens)
