"""Style: a few vectors read from a reference recording's features, whatever its length."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """``(B,)`` lengths → ``(B, size)`` booleans, true where there is something."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


class StyleTokens(nn.Module):
    """K style tokens by attention pooling over the feature grid.

    Learned queries attend to every place of the grid; padded columns are masked out, so that the
    tokens of a clip do not depend on its batch.

    Args:
        feature_dim: D of the encoder's features.
        dim: width of the tokens.
        tokens: K.
    """

    def __init__(self, feature_dim: int, dim: int, tokens: int):
        super().__init__()
        self.norm = nn.LayerNorm(feature_dim)
        self.key = nn.Linear(feature_dim, dim, bias=False)  # a key bias cancels in the softmax
        self.value = nn.Linear(feature_dim, dim)
        self.queries = nn.Parameter(torch.randn(tokens, dim))
        last = nn.Linear(dim, dim)
        nn.init.normal_(last.weight, std=0.02)  # as small as the embeddings that stand beside the tokens
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), last)

    def forward(self, features: Tensor, columns: Tensor) -> Tensor:
        """Pool.

        Args:
            features: ``(B, T, F, D)``, padded in T.
            columns: ``(B,)`` real columns, at least one each.

        Returns:
            ``(B, K, dim)``.
        """
        batch, size, rows, _ = features.shape
        flat = self.norm(features.flatten(1, 2))
        mask = length_mask(columns, size).repeat_interleave(rows, dim=1)[:, None, :]
        queries = self.queries.expand(batch, -1, -1)
        pooled = functional.scaled_dot_product_attention(
            queries, self.key(flat), self.value(flat), attn_mask=mask
        )
        return self.out(pooled)


class AverageStyle(nn.Module):
    """The paper's K style tokens: adaptive average pooling of the places to K, then Linear-GELU-Linear.

    The places of the grid are taken in time-major order; token k is the mean of the places from
    ``floor(k N / K)`` to ``ceil((k + 1) N / K)`` of the N real ones, so that padding has no part in it.

    Args:
        feature_dim: D of the encoder's features.
        dim: width of the tokens.
        tokens: K.
    """

    def __init__(self, feature_dim: int, dim: int, tokens: int):
        super().__init__()
        self.tokens = tokens
        last = nn.Linear(dim, dim)
        nn.init.normal_(last.weight, std=0.02)  # as small as the embeddings that stand beside the tokens
        self.out = nn.Sequential(nn.Linear(feature_dim, dim), nn.GELU(), last)

    def forward(self, features: Tensor, columns: Tensor) -> Tensor:
        """Pool; as :meth:`StyleTokens.forward`."""
        _, size, rows, _ = features.shape
        places = (columns * rows)[:, None]  # (B, 1)
        token = torch.arange(self.tokens, device=columns.device)
        first, end = token * places // self.tokens, -(-(token + 1) * places // self.tokens)
        place = torch.arange(size * rows, device=columns.device)
        inside = (place >= first[..., None]) & (place < end[..., None])  # (B, K, N)
        # What stands on padding must not count, not even as 0 * infinity.
        flat = features.flatten(1, 2).masked_fill((place >= places)[..., None], 0.0)
        return self.out(inside.to(flat) @ flat / (end - first)[..., None])
