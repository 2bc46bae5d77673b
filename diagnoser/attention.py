"""Longformer attention as two masked dense calls: the library's output without its sliding chunks.

The library's chunked path is made for thousands of places; at a few hundred on a CPU most of its time
goes into shuffling. Here the pattern is a mask: a local place sees its window and every global place
through ``query/key/value``; a global place sees everything through ``query_global/key_global/value_global``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import LongformerForSequenceClassification
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention


class DenseSelfAttention(LongformerSelfAttention):
    """Drop-in for the library's self-attention, with the same parameters."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        is_index_masked: torch.Tensor | None = None,
        is_index_global_attn: torch.Tensor | None = None,
        is_global_attn: bool | None = None,
        output_attentions: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor]:
        """Attend.

        Args:
            hidden_states: ``(B, L, D)``.
            attention_mask: not read; the two masks below say the same.
            is_index_masked: places that are padding ``(B, L)``.
            is_index_global_attn: places with global attention ``(B, L)``.
            is_global_attn: whether there is any.
            output_attentions: not offered, the weights never exist in memory.

        Returns:
            states ``(B, L, D)``, zero at padding.
        """
        if is_index_masked is None or is_index_global_attn is None or output_attentions:
            raise ValueError("dense attention needs both masks and gives no attention weights")
        valid, everywhere = ~is_index_masked, is_index_global_attn & ~is_index_masked
        place = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        near = (place[:, None] - place[None, :]).abs() <= self.one_sided_attn_window_size
        # A padded query may see nothing: its output is zeroed below, but must stay finite.
        allowed = (near | everywhere[:, None, :]) & valid[:, None, :] | torch.diag(near.new_ones(len(place)))
        states = self._attend(
            self.query(hidden_states), self.key(hidden_states), self.value(hidden_states), allowed
        )
        if is_global_attn:
            count = int(everywhere.sum(dim=1).max())
            # Stable: the global places of each row first, in their order.
            index = torch.argsort((~everywhere).long(), dim=1, stable=True)[:, :count]
            spread = index[..., None].expand(-1, -1, hidden_states.shape[-1])
            wide = self._attend(
                self.query_global(hidden_states.gather(1, spread)),
                self.key_global(hidden_states),
                self.value_global(hidden_states),
                valid[:, None, :],
            )
            real = everywhere.gather(1, index)[..., None]
            states = states.scatter(1, spread, torch.where(real, wide, states.gather(1, spread)))
        return (states.masked_fill(is_index_masked[..., None], 0.0),)

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor
    ) -> torch.Tensor:
        """Scaled dot-product attention of ``(B, Q, D)`` over ``(B, L, D)`` where ``allowed (B, Q, L)``."""

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

        out = nn.functional.scaled_dot_product_attention(
            heads(query),
            heads(key),
            heads(value),
            attn_mask=allowed[:, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return out.transpose(1, 2).flatten(2)


def make_dense(network: LongformerForSequenceClassification) -> None:
    """Switch every layer of a Longformer to :class:`DenseSelfAttention`, weights kept."""
    layers: Any = network.longformer.encoder.layer
    for layer in layers:
        layer.attention.self.__class__ = DenseSelfAttention
    # Only the sliding chunks need lengths that are multiples of the window.
    network.longformer.config.attention_window = 2
