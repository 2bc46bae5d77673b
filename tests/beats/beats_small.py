"""A small encoder and noise for it."""

import torch

from beats.config import BeatsConfig
from beats.encoder import BeatsEncoder
from beats.fbank import DEVIATION, MEAN


def small_encoder(stem: str = "patch", dim: int = 32) -> BeatsEncoder:
    """Two layers, without dropout."""
    return BeatsEncoder(
        BeatsConfig(
            stem=stem,  # type: ignore[arg-type]
            embed_dim=24,
            dim=dim,
            ffn_dim=64,
            layers=2,
            heads=2,
            conv_pos=8,
            conv_pos_groups=4,
            buckets=32,
            max_distance=64,
            dropout=0.0,
        )
    )


def noise(clips: int, columns: int, over: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames and their counts, ``over`` frames more than the columns fill."""
    generator = torch.Generator().manual_seed(1)
    size = 16 * columns + over
    return MEAN + DEVIATION * torch.randn(clips, size, 128, generator=generator), torch.full((clips,), size)


class Clips:
    """Rows of tensors by their number; reading one more than ``left`` is a kill."""

    def __init__(self, left: int | None = None, **tensors: torch.Tensor):
        self.tensors, self.left = tensors, left

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return {name: tensor[index] for name, tensor in self.tensors.items()}
