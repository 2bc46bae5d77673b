"""The transformer of BEATs: positional convolution, gated relative position bias, deep-norm layers.

Names follow the published state dict, with one exception: the position table that all layers share
stands once, as ``encoder.relative_attention_bias``.
"""

from __future__ import annotations

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from beats.config import BeatsConfig


def offset_buckets(offset: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Bucket of every offset key - query of the flat token index, int64 of the same shape.

    Half of the buckets per sign; of each half the first half is exact, the rest logarithmic up to
    ``max_distance``, from where on the bucket stays the same.
    """
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

    def forward(
        self, x: Tensor, bias: Tensor, padding: Tensor | None, scratch: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: tokens ``(B, N, D)``.
            bias: position bias ``(H, N, N)``, or ``(B, H, N, N)`` for places that differ, before the gate.
            padding: keys that are padding ``(B, N)`` bool, or None when there are none.
            scratch: room ``(B, H, N, N)`` for the gated bias, where no gradient is asked for.
        """

        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1))

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        if scratch is None:
            # Under autocast the gate and the table are wider than q: their large product need not be.
            gated = self.gate(q).to(q.dtype) * bias.to(q.dtype)
        else:
            gated = torch.mul(self.gate(q), bias, out=scratch)
        if padding is not None:
            gated.masked_fill_(padding[:, None, None, :], -torch.inf)
        # No dropout on the weights: at N² places it would cost a quarter of a training step.
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=gated)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def gate(self, q: Tensor) -> Tensor:
        """Factor on the position bias, ``(B, H, N, 1)``, of unscaled queries ``(B, N, H, D / H)``."""
        # The eight outputs are only used in two sums of four: sum the weights, not the outputs.
        weight = self.grep_linear.weight.unflatten(0, (2, 4)).sum(1)
        offset = self.grep_linear.bias.unflatten(0, (2, 4)).sum(1)
        a, b = torch.sigmoid(F.linear(q, weight, offset)).transpose(1, 2).chunk(2, dim=-1)
        return a * (b * self.grep_a - 1.0) + 2.0


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

    def forward(
        self, x: Tensor, bias: Tensor, padding: Tensor | None, scratch: Tensor | None = None
    ) -> Tensor:
        """``(B, N, D)`` → ``(B, N, D)``; arguments as :class:`Attention`."""
        y = self.drop(self.self_attn(x, bias, padding, scratch))
        x = self.self_attn_layer_norm(torch.add(y, x, alpha=self.alpha))
        y = self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))
        return self.final_layer_norm(torch.add(y, x, alpha=self.alpha))


NARROW = 16
"""Channels of a group below which CPUs with AMX get bfloat16 convolutions wrong (torch 2.13: unlike float32 in every
value; from 16 on they agree)."""


class PositionConv(nn.Conv1d):
    """The grouped convolution over positions; on a CPU through Fourier transforms where gradients are asked for.

    A CPU's way back through a grouped convolution takes a third of a training step of the tiny size, its
    transforms a sixth of that. Without gradients features stay those of the plain convolution.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, N)`` → ``(B, D, N + 1)`` for the even kernel padded by half of its width on both sides."""
        # The weights are transformed once per batch: below some clips that costs more than it spares.
        many = 8 * len(x) >= self.in_channels // self.groups
        plain = x.device.type != "cpu" or x.dtype in (torch.bfloat16, torch.float16)
        if plain or not many or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._plain(x)
        pad = int(self.padding[0])
        length = x.shape[-1] + 2 * pad - self.kernel_size[0] + 1
        size = next_fast_len(x.shape[-1] + self.kernel_size[0] - 1, real=True)
        with torch.autocast("cpu", enabled=False):
            signal = torch.fft.rfft(x.unflatten(1, (self.groups, -1)), size)
            kernel = torch.fft.rfft(self.weight.unflatten(0, (self.groups, -1)), size)
            product = torch.einsum("bgif,goif->bgof", signal, kernel.conj())
            y = torch.fft.irfft(product, size).flatten(1, 2)
        # Circular: what lies before the first position stands at the end.
        return y.roll(pad, -1)[..., :length] + self.get_parameter("bias")[:, None]

    def _plain(self, x: Tensor) -> Tensor:
        """The library's convolution, in float32 where its bfloat16 is wrong."""
        half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        if x.device.type != "cpu" or not half or self.in_channels // self.groups >= NARROW:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            y = self._conv_forward(x.float(), self.weight.float(), self.get_parameter("bias").float())
        return y.to(x.dtype)


class Transformer(nn.Module):
    """Positional convolution and layers over flat tokens."""

    def __init__(self, config: BeatsConfig):
        super().__init__()
        # All offsets that differ in their bucket, made here once: on another device, or compiled, a
        # logarithm may round to another bucket.
        self.reach = config.max_distance
        offsets = torch.arange(-self.reach, self.reach + 1)
        self.offset_bucket: Tensor
        buckets = offset_buckets(offsets, config.buckets, config.max_distance)
        self.register_buffer("offset_bucket", buckets, persistent=False)
        convolution = PositionConv(
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

    def position_bias(self, tokens: int, kept: Tensor | None = None) -> Tensor:
        """Bias of every (query, key) pair, before the gate.

        Args:
            tokens: of the whole grid, N.
            kept: flat indices ``(B, K)`` of the tokens that are there, or None for all.

        Returns:
            ``(H, N, N)``, or ``(B, H, K, K)`` with ``kept``.
        """
        # It depends on key - query alone: 2N - 1 values per head, not N².
        offset = torch.arange(1 - tokens, tokens, device=self.offset_bucket.device)
        bucket = self.offset_bucket[offset.clamp(-self.reach, self.reach) + self.reach]
        line = self.relative_attention_bias(bucket).T.contiguous()
        if kept is None:
            return line.unfold(1, tokens, 1).flip(1)  # row q starts at the offset -q
        place = kept[:, None, :] - kept[:, :, None] + tokens - 1
        pairs = line.gather(1, place.reshape(1, -1).expand(len(line), -1))
        return pairs.view(-1, *place.shape).transpose(0, 1)

    def forward(self, x: Tensor, padding: Tensor | None, kept: Tensor | None = None) -> Tensor:
        """Encode tokens.

        Args:
            x: ``(B, N, D)``, the whole grid.
            padding: ``(B, N)`` bool, True at padding, or None.
            kept: ``(B, K)`` int64, ascending flat indices of the tokens to encode, none of them padding;
                what the others hold changes nothing. None for all.

        Returns:
            ``(B, N, D)``, or ``(B, K, D)`` with ``kept``.
        """
        tokens, dim = x.shape[1:]
        # Zeroed places equal the convolution's own padding, so a padded clip sees what it sees alone.
        if kept is not None:
            hidden = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device).scatter_(1, kept, False)
            x = x.masked_fill(hidden[..., None], 0.0)
        elif padding is not None:
            x = x.masked_fill(padding[..., None], 0.0)
        # An even kernel with half of it as padding gives one step too many: the last is dropped.
        near = self.pos_conv[0](x.transpose(1, 2))[..., :tokens].transpose(1, 2)
        if kept is not None:
            chosen = kept[..., None].expand(-1, -1, dim)
            x, near, padding = x.gather(1, chosen), near.gather(1, chosen), None
        x = self.drop(self.layer_norm(x + F.gelu(near)))
        bias = self.position_bias(tokens, kept)
        scratch = None if torch.is_grad_enabled() else self._scratch(x, bias)
        for layer in self.layers:
            x = layer(x, bias, padding, scratch)
        return x

    def _scratch(self, x: Tensor, bias: Tensor) -> Tensor:
        """Room for a gated bias: fresh memory in every layer costs a CPU more than the product itself."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        return x.new_empty(len(x), *bias.shape[-3:], dtype=dtype)
