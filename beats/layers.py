"""The transformer of BEATs: positional convolution, gated relative position bias, deep-norm layers.

Names follow the published state dict, with one exception: the position table that all layers share
stands once, as ``encoder.relative_attention_bias``.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from beats.config import BeatsConfig


@lru_cache(maxsize=16)
def position_buckets(tokens: int, buckets: int, max_distance: int) -> Tensor:
    """Bucket of every (query, key) pair of the flat token index, ``(N, N)`` int64.

    Half of the buckets per sign of key - query; of each half the first half is exact, the rest
    logarithmic up to ``max_distance``.
    """
    place = torch.arange(tokens)
    offset = place[None, :] - place[:, None]
    half, exact = buckets // 2, buckets // 4
    distance = offset.abs()
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return (offset > 0) * half + torch.where(distance < exact, distance, far)


class Attention(nn.Module):
    """Multi-head attention whose position bias is gated by the query (WavLM; BEATs section 3.1)."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.dim, config.dim)
        self.k_proj = nn.Linear(config.dim, config.dim)
        self.v_proj = nn.Linear(config.dim, config.dim)
        self.out_proj = nn.Linear(config.dim, config.dim)
        self.grep_linear = nn.Linear(config.dim // config.heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, config.heads, 1, 1))

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
        """Attend.

        Args:
            x: tokens ``(B, N, D)``.
            bias: position bias ``(H, N, N)``, before the gate.
            padding: keys that are padding ``(B, N)`` bool, or None when there are none.
        """
        batch, tokens, dim = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, tokens, self.heads, dim // self.heads).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        logits = self.grep_linear(q).view(batch, self.heads, tokens, 2, 4).sum(-1)
        a, b = torch.sigmoid(logits).chunk(2, dim=-1)
        gated = (a * (b * self.grep_a - 1.0) + 2.0) * bias
        if padding is not None:
            gated = gated.masked_fill(padding[:, None, None, :], -torch.inf)
        # No dropout on the weights: at N² places it would cost a quarter of a training step.
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=gated)
        return self.out_proj(y.transpose(1, 2).reshape(batch, tokens, dim))


class Layer(nn.Module):
    """Post-norm layer; with deep-norm the residual is scaled by alpha = (2 · layers)^¼."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        self.alpha = (2.0 * config.layers) ** 0.25 if config.deep_norm else 1.0
        self.self_attn = Attention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, config.dim)
        self.final_layer_norm = nn.LayerNorm(config.dim)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None) -> Tensor:
        """``(B, N, D)`` → ``(B, N, D)``; arguments as :class:`Attention`."""
        x = self.self_attn_layer_norm(x * self.alpha + self.drop(self.self_attn(x, bias, padding)))
        y = self.fc2(self.drop(F.gelu(self.fc1(x))))
        return self.final_layer_norm(x * self.alpha + self.drop(y))


class Transformer(nn.Module):
    """Positional convolution and layers over flat tokens."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        self.buckets, self.max_distance = config.buckets, config.max_distance
        convolution = nn.Conv1d(
            config.dim,
            config.dim,
            config.conv_pos,
            padding=config.conv_pos // 2,
            groups=config.conv_pos_groups,
        )
        spread = math.sqrt(4 * (1 - config.dropout) / (config.conv_pos * config.dim))
        nn.init.normal_(convolution.weight, std=spread)
        nn.init.constant_(convolution.get_parameter("bias"), 0.0)
        self.pos_conv = nn.ModuleList([weight_norm(convolution, dim=2)])
        self.layer_norm = nn.LayerNorm(config.dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.relative_attention_bias = nn.Embedding(config.buckets, config.heads)
        self.drop = nn.Dropout(config.dropout)
        nn.init.normal_(self.relative_attention_bias.weight, std=0.02)
        self._initialise(config)

    def _initialise(self, config: BeatsConfig) -> None:
        """Xavier, with the deep-norm gain (8 · layers)^-¼ where the residual branch carries values."""
        gain = (8.0 * config.layers) ** -0.25 if config.deep_norm else 1.0
        for name, parameter in self.layers.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(("q_proj.weight", "k_proj.weight")):
                nn.init.xavier_normal_(parameter)
            elif name.endswith(("v_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight")):
                nn.init.xavier_normal_(parameter, gain=gain)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """Encode tokens.

        Args:
            x: ``(B, N, D)``.
            padding: ``(B, N)`` bool, True at padding, or None.
        """
        tokens = x.shape[1]
        if padding is not None:
            # Zeroed places equal the convolution's own padding, so a padded clip sees what it sees alone.
            x = x.masked_fill(padding[..., None], 0.0)
        # An even kernel with half of it as padding gives one step too many: the last is dropped.
        near = self.pos_conv[0](x.transpose(1, 2))[..., :tokens].transpose(1, 2)
        x = self.drop(self.layer_norm(x + F.gelu(near)))
        index = position_buckets(tokens, self.buckets, self.max_distance).to(x.device)
        bias = self.relative_attention_bias(index).permute(2, 0, 1)
        for layer in self.layers:
            x = layer(x, bias, padding)
        return x
