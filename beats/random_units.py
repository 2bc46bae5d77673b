"""Units without learning: a random projection of filterbank patches, the targets of the first iteration.

Chen et al., "BEATs" (2023), section 3.2; after BEST-RQ (Chiu et al., 2022).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from beats.config import PATCH, ROWS, RandomUnitsConfig
from beats.fbank import normalise
from beats.units import nearest
from training.config import Strict
from training.model import Model


class RandomUnits(Model):
    """The nearest of random codes to a random projection of a patch, both of length 1.

    Projection and codes are drawn at construction from torch's global generator. Every bin is centred over
    its clip first: the level and the recorder then change no unit. Without it nearly all patches point one
    way, and a few units are all that real recordings use. Scaling the bins too, as BEST-RQ does, adds next
    to nothing, as a patch's length drops out.
    """

    config_class: ClassVar[type[Strict]] = RandomUnitsConfig
    config: RandomUnitsConfig
    projection: Tensor
    codes: Tensor

    def __init__(self, config: RandomUnitsConfig):
        super().__init__(config)
        self.register_buffer("projection", torch.randn(PATCH * PATCH, config.code_dim))
        self.register_buffer("codes", F.normalize(torch.randn(config.codebook, config.code_dim), dim=-1))

    @torch.no_grad()
    def units_of_frames(self, frames: Tensor, counts: Tensor) -> Tensor:
        """Units ``(B, T, 8)`` int64 of filterbank frames, any value past a clip's end.

        Args:
            frames: ``(B, L, 128)``, not normalised.
            counts: of frames ``(B,)``; T is the most whole columns of a clip.
        """
        columns = counts // PATCH
        frames = normalise(frames[:, : PATCH * int(columns.max())]).to(self.codes)
        inside = torch.arange(frames.shape[1], device=frames.device) < PATCH * columns[:, None]
        frames = frames.masked_fill(~inside[..., None], 0.0)
        mean = frames.sum(1, keepdim=True) / (PATCH * columns).clamp(min=1)[:, None, None]
        patches = (frames - mean).unflatten(1, (-1, PATCH)).unflatten(3, (ROWS, PATCH))
        flat = patches.transpose(2, 3).reshape(-1, PATCH * PATCH)
        found = nearest(F.normalize(flat @ self.projection, dim=-1), self.codes)
        return found.view(len(frames), -1, ROWS)
