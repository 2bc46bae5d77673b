"""Diffusion transformer: a token per frame or few, adaLN-Zero, rotary positions, length masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoids ``(B, dim)`` of flow times ``(B,)`` in [0, 1], scaled by 1000 so that they spread."""
    half = dim // 2
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=t.device) / half)
    angles = 1000.0 * t[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def rotary(size: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(size, dim / 2)`` of rotary positions."""
    rates = 10_000.0 ** (-torch.arange(0, dim, 2, device=device) / dim)
    angles = torch.arange(size, device=device)[:, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn ``(B, H, L, d)`` by its positions."""
    cos, sin = turn
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention over ``(B, H, L, d)``; key mask ``(B, 1, 1, L)``.

    On a CPU always in fp32: there the backward pass of torch's bf16 kernel takes longer than the rest of a block.
    """
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        return functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)


class Block(nn.Module):
    """Attention and MLP, each scaled, shifted and gated by the condition vector (adaLN-Zero)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)  # adaLN's shift already is a bias
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )
        self.modulation = nn.Linear(dim, 6 * dim)

    def forward(self, x: Tensor, vector: Tensor, mask: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """``x (B, L, d)``, condition ``(B, d)``, key mask ``(B, 1, 1, L)`` → ``(B, L, d)``."""
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(vector)[:, None].chunk(6, dim=-1)
        y = self.norm(x) * (1 + scale) + shift
        q, k, v = (z.unflatten(-1, (self.heads, -1)).transpose(1, 2) for z in self.qkv(y).chunk(3, dim=-1))
        y = attend(rotate(q, turn), rotate(k, turn), v, mask)
        x = x + gate * self.out(y.transpose(1, 2).flatten(2))
        return x + gate2 * self.mlp(self.norm(x) * (1 + scale2) + shift2)


class DiT(nn.Module):
    """Backbone of the flow: noisy frames and their condition → what the flow needs of every frame.

    Args:
        size: M, values of a frame.
        outputs: values that are predicted of a frame.
        dim: width.
        layers: blocks.
        heads: attention heads.
        patch: neighbouring frames that share a token.
    """

    def __init__(self, size: int, outputs: int, dim: int, layers: int, heads: int, patch: int = 1):
        super().__init__()
        self.dim, self.heads, self.patch = dim, heads, patch
        self.enter = nn.Linear(patch * size, dim)
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(dim, 2 * dim)
        self.leave = nn.Linear(dim, patch * outputs)
        self.zero_init()

    def zero_init(self) -> None:
        """Start as the identity: gates, shifts, scales and the outputs are zero."""
        for layer in (self.leave, *(m for name, m in self.named_modules() if name.endswith("modulation"))):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, content: Tensor, vector: Tensor, mask: Tensor) -> Tensor:
        """Predict.

        Args:
            x: noisy frames ``(B, L, M)``.
            t: flow times ``(B,)``.
            content: per-frame condition ``(B, L, dim)``.
            vector: per-clip condition ``(B, dim)``.
            mask: real frames ``(B, L)``.

        Returns:
            ``(B, L, outputs)``, zero on padding.
        """
        vector = functional.silu(vector + self.time(timestep_embedding(t, self.dim)))
        real = mask[..., None]
        # What stands on padding may share a token with real frames.
        y = self.enter(self._join(x * real).flatten(2)) + self._join(content * real).mean(2)
        turn = rotary(y.shape[1], self.dim // self.heads, x.device)
        keys = self._join(real).any(2)[:, None, None, :, 0]
        for block in self.blocks:
            y = block(y, vector, keys, turn)
        shift, scale = self.modulation(vector)[:, None].chunk(2, dim=-1)
        y = self.leave(self.norm(y) * (1 + scale) + shift)
        return y.unflatten(2, (self.patch, -1)).flatten(1, 2)[:, : x.shape[1]] * real

    def _join(self, x: Tensor) -> Tensor:
        """``(B, L, d)`` to the frames of each token ``(B, ⌈L / patch⌉, patch, d)``."""
        short = -x.shape[1] % self.patch
        return functional.pad(x, (0, 0, 0, short)).unflatten(1, (-1, self.patch))
