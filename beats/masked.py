"""Masked prediction of units: the pre-training of the encoder.

Chen et al., "BEATs" (2023), section 3.3: most tokens are dropped, the encoder sees the others alone, and
a light predictor names the units of those that were dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from beats.config import PATCH, ROWS, MaskedConfig
from beats.encoder import BeatsEncoder
from beats.layers import Transformer
from training.errors import DataError


@dataclass
class MaskedOutput(ModelOutput):
    """Cross-entropy (nats) and accuracy over the hidden tokens of a batch, scalars."""

    loss: torch.FloatTensor | None = None
    accuracy: Tensor | None = None


class MaskedPredictor(nn.Module):
    """The encoder with a predictor of hidden units; only the encoder is kept.

    Args:
        encoder: trained.
        codebook: number of units.
        config: share hidden, and size of the predictor. It has the encoder's width and position bias.
    """

    def __init__(self, encoder: BeatsEncoder, codebook: int, config: MaskedConfig):
        super().__init__()
        self.encoder = encoder
        self.codebook = codebook
        self.share = config.share
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.width))
        self.predictor = Transformer(encoder.config.model_copy(update={"layers": config.layers}))
        self.head = nn.Linear(encoder.width, codebook)
        # Every unit is about as likely at first.
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, frames: Tensor, counts: Tensor, units: Tensor) -> MaskedOutput:
        """Hide some of the tokens and predict their units.

        In training the choice comes from torch's global generator, in eval mode it is always the same.

        Args:
            frames: filterbank frames ``(B, L, 128)``, not normalised.
            counts: of frames ``(B,)``, the same whole columns T for every clip.
            units: ``(B, T, 8)`` int64 in [0, codebook).

        Raises:
            DataError: the clips differ in columns, or the units do not fit them.
        """
        columns = counts // PATCH
        longest = int(columns.max())
        if int(columns.min()) != longest:
            raise DataError(
                f"clips of {int(columns.min())} and of {longest} columns in one batch",
                cure="crop or loop the clips of a batch to one length",
            )
        if units.shape != (len(frames), longest, ROWS):
            raise DataError(
                f"units {tuple(units.shape)} for a batch of {len(frames)} x {longest} x {ROWS} places"
            )
        if int(units.min()) < 0 or int(units.max()) >= self.codebook:
            raise DataError(f"units from {int(units.min())} to {int(units.max())}, not of {self.codebook}")
        kept, hidden = self.choose(len(frames), longest * ROWS, frames.device)
        logits = self.predict(frames, counts, kept, hidden).flatten(0, 1).float()
        targets = units.flatten(1).gather(1, hidden).flatten()
        loss = F.cross_entropy(logits, targets)
        accuracy = (logits.detach().argmax(-1) == targets).float().mean()
        return MaskedOutput(loss, accuracy)  # type: ignore[arg-type]

    def choose(self, clips: int, tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Ascending flat indices of the tokens kept ``(B, K)`` and of those hidden ``(B, N - K)``."""
        fixed = None if self.training else torch.Generator().manual_seed(0)
        # Drawn on the CPU, so that every device hides the same.
        order = torch.rand(clips, tokens, generator=fixed).argsort(dim=1).to(device)
        count = min(max(round(self.share * tokens), 1), tokens - 1)
        return order[:, count:].sort(dim=1).values, order[:, :count].sort(dim=1).values

    def predict(self, frames: Tensor, counts: Tensor, kept: Tensor, wanted: Tensor) -> Tensor:
        """Logits ``(B, W, codebook)`` at the flat indices ``wanted (B, W)``, from the tokens kept alone."""
        features = self.encoder.encode_visible(frames, counts, kept)
        tokens = int(counts.max()) // PATCH * ROWS
        places = self.mask_token.to(features.dtype).expand(len(frames), tokens, -1)
        # The predictor's positional convolution and position bias tell the places apart.
        places = self.predictor(places.scatter(1, _wide(kept, features), features), None)
        return self.head(places.gather(1, _wide(wanted, places)))


def _wide(index: Tensor, values: Tensor) -> Tensor:
    """An index ``(B, N)`` of whole vectors of ``values (B, M, D)``."""
    return index[..., None].expand(-1, -1, values.shape[-1])
