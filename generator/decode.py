"""One place at a time through a language model, with what it has already seen kept; and draws from logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, Qwen3Model


class Decoder(Protocol):
    """The hidden state of a prompt's last place, then of one place after another."""

    hidden: Tensor  # (B, H)

    def step(self, inputs: Tensor) -> None:
        """Take one more place ``(B, H)`` and update ``hidden``."""
        ...


def decoder(body: PreTrainedModel, embeds: Tensor, mask: Tensor, steps: int) -> Decoder:
    """Read a prompt; what follows goes through the library, or faster where the network is a plain Qwen3.

    Args:
        body: of the language model.
        embeds: ``(B, P, H)``.
        mask: ``(B, P)``, false on padding.
        steps: places to follow.
    """
    c: Any = body.config
    plain = (
        type(body) is Qwen3Model
        and not c.attention_bias
        and c.hidden_act == "silu"
        and set(c.layer_types) == {"full_attention"}
        and c.rope_parameters["rope_type"] == "default"
        and all(type(module) is nn.Linear for name, module in body.named_modules() if name.endswith("_proj"))
    )
    return (Qwen3Decoder if plain else LibraryDecoder)(body, embeds, mask, steps)


class LibraryDecoder:
    """Any network, by its own forward and a growing cache; arguments as :func:`decoder`'s."""

    def __init__(self, body: PreTrainedModel, embeds: Tensor, mask: Tensor, steps: int):
        self.body, self.seen = body, mask.shape[1]
        self.mask = torch.cat([mask, mask.new_ones(len(mask), steps)], dim=1).long()
        self.cache = DynamicCache(config=body.config)
        self.hidden = self._forward(embeds)

    def _forward(self, embeds: Tensor) -> Tensor:
        output = self.body(
            inputs_embeds=embeds,
            attention_mask=self.mask[:, : self.seen],
            past_key_values=self.cache,
            use_cache=True,
        )
        return output.last_hidden_state[:, -1]

    def step(self, inputs: Tensor) -> None:
        """One more place."""
        self.seen += 1
        self.hidden = self._forward(inputs[:, None])


class Qwen3Decoder:
    """Qwen3's layers written out for a single place: what the library does around them costs more than they do.

    Keys and values have their place in memory from the beginning, projections of the same input are one
    product, and the heads that share a key attend as so many queries of one head. Arguments as
    :func:`decoder`'s.
    """

    def __init__(self, body: PreTrainedModel, embeds: Tensor, mask: Tensor, steps: int):
        read = LibraryDecoder(body, embeds, mask, 0)
        self.hidden, self.seen = read.hidden, read.seen
        self.config: Any = body.config
        c, size = self.config, self.seen + steps
        self.layers = []
        layers: Any = zip(body.layers, read.cache.layers, strict=True)  # type: ignore[arg-type]
        for layer, kept in layers:
            attention, mlp = layer.self_attn, layer.mlp
            past = embeds.new_empty(2, len(mask), c.num_key_value_heads, size, c.head_dim)
            past[0, :, :, : self.seen], past[1, :, :, : self.seen] = kept.keys, kept.values
            heads = (c.num_attention_heads, -1), (c.num_key_value_heads, -1)
            scales = attention.q_norm.weight.expand(heads[0]), attention.k_norm.weight.expand(heads[1])
            joined = attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight
            gated = mlp.gate_proj.weight, mlp.up_proj.weight
            self.layers.append((layer, torch.cat(joined), torch.cat(scales), torch.cat(gated), past))
        self.norm: Any = body.norm
        self.mask = torch.cat([mask, mask.new_ones(len(mask), steps)], dim=1)[:, None, None]
        turn: Any = body.rotary_emb
        cos, sin = turn(embeds, torch.arange(size, device=embeds.device)[None])
        half = c.head_dim // 2
        # rotate_half(x) * sin is roll(x) * (-sin, sin).
        self.cos, self.sin = cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)

    def step(self, inputs: Tensor) -> None:
        """One more place."""
        c, x, at = self.config, inputs, self.seen
        self.seen += 1
        heads, shared, dim, eps = c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.rms_norm_eps
        cos, sin, mask = self.cos[at], self.sin[at], self.mask[..., : self.seen]
        for layer, joined, scales, gated, past in self.layers:
            y = functional.linear(layer.input_layernorm(x), joined).view(len(x), -1, dim)
            turned = functional.rms_norm(y[:, :-shared], (dim,), eps=eps) * scales
            turned = turned * cos + turned.roll(dim // 2, dims=-1) * sin
            past[0, :, :, at], past[1, :, :, at] = turned[:, heads:], y[:, -shared:]
            keys, values = past[..., : self.seen, :]
            queries = turned[:, :heads].reshape(len(x), shared, heads // shared, dim)
            mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            x = x + layer.self_attn.o_proj(mixed.reshape(len(x), -1))
            gate, up = functional.linear(layer.post_attention_layernorm(x), gated).chunk(2, dim=-1)
            x = x + layer.mlp.down_proj(functional.silu(gate) * up)
        self.hidden = self.norm(x)


def guided(logits: Tensor, scales: Sequence[float]) -> Tensor:
    """Logits ``(B, C)`` of the whole prompts, pushed away from those without a part of it.

    Args:
        logits: ``((1 + n) B, C)``: of whole prompts, then of the same without each of n parts.
        scales: guidance of each part; 1 changes nothing.
    """
    whole, *without = logits.chunk(1 + len(scales))
    for scale, part in zip(scales, without, strict=True):
        whole = whole + (scale - 1) * (logits[: len(part)] - part)
    return whole


def nucleus(logits: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Inverse-CDF draw from the smallest set of classes that holds ``top_p`` of the probability.

    Args:
        logits: ``(B, C)``.
        uniform: ``(B,)`` in [0, 1).
        top_p: share kept; the likeliest class always is.

    Returns:
        ``(B,)`` classes.
    """
    probabilities, order = logits.softmax(-1).sort(stable=True, dim=-1, descending=True)
    total = probabilities.cumsum(-1)
    kept = probabilities * (total - probabilities < top_p)
    total = kept.cumsum(-1)
    index = (total <= uniform[:, None] * total[:, -1:]).sum(-1, keepdim=True)
    # Rounding may put the draw behind the last kept class.
    last = (kept > 0).sum(-1, keepdim=True) - 1
    return order.gather(1, torch.minimum(index, last))[:, 0]
