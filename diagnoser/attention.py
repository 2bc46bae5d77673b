"""Longformer attention without the library's sliding chunks: the same output from masked attention calls.

A local place sees its window and every global place through ``query/key/value``; a global place sees
everything through ``query_global/key_global/value_global``. Two forms differ in the local part alone:

- dense: one call, the pattern is a mask ``(L, L)``. Best at a few hundred places.
- banded: a call per block of queries, over the block's keys, a window on either side, and the global
  places. Time and memory grow as ``L x (window + globals)``.

The library's chunks touch the keys as often as the banded form, but spend most of their time on shuffling.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import LongformerForSequenceClassification
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

CROSSOVER = 320
"""Places up to which one masked call takes less time, and never less than twice the window: below, the
blocks would hold nearly all keys. Measured on one CPU core, see ``benchmarks/diagnoser.py``."""
BLOCK = 128
"""Queries of a banded call, and never less than the window: smaller blocks spend their time on calls, larger
ones on masked keys."""


class MaskedSelfAttention(LongformerSelfAttention):
    """Drop-in for the library's self-attention, with the same parameters.

    Both forms call the projections in the same order: processes with sequences of different length
    gather partitioned parameters in step.

    Attributes:
        crossover: places up to which the dense form is taken; None: always.
    """

    crossover: int | None = None

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
            raise ValueError("masked attention needs both masks and gives no attention weights")
        valid, everywhere = ~is_index_masked, is_index_global_attn & ~is_index_masked
        count = int(everywhere.sum(dim=1).max())
        # Stable: the global places of each row first, in their order.
        index = torch.argsort((~everywhere).long(), dim=1, stable=True)[:, :count]
        local = self._dense
        if self.crossover is not None and hidden_states.shape[1] > self.crossover:
            local = self._banded
        states = local(
            self.query(hidden_states),
            self.key(hidden_states),
            self.value(hidden_states),
            valid,
            everywhere,
            index,
        )
        if is_global_attn:
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

    def _dense(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        valid: torch.Tensor,
        everywhere: torch.Tensor,
        index: torch.Tensor,
    ) -> torch.Tensor:
        """Local attention ``(B, L, D)`` in one call; the global places ``index (B, G)`` are not needed."""
        place = torch.arange(query.shape[1], device=query.device)
        near = (place[:, None] - place[None, :]).abs() <= self.one_sided_attn_window_size
        # A padded query may see nothing: its output is zeroed later, but must stay finite.
        allowed = (near | everywhere[:, None, :]) & valid[:, None, :] | torch.diag(near.new_ones(len(place)))
        return self._attend(query, key, value, allowed)

    def _banded(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        valid: torch.Tensor,
        everywhere: torch.Tensor,
        index: torch.Tensor,
    ) -> torch.Tensor:
        """Local attention ``(B, L, D)`` block by block, over the window and the global places ``(B, G)``."""
        side, length = self.one_sided_attn_window_size, query.shape[1]
        spread = index[..., None].expand(-1, -1, key.shape[-1])
        far_key, far_value = key.gather(1, spread), value.gather(1, spread)
        far = everywhere.gather(1, index)[:, None, :]
        # Each global place counts once, whether it is near or not.
        once = valid & ~everywhere
        place, block = torch.arange(length, device=query.device), max(BLOCK, 2 * side)
        blocks = []
        for start in range(0, length, block):
            stop = min(start + block, length)
            reach = slice(max(start - side, 0), min(stop + side, length))
            apart = (place[start:stop, None] - place[None, reach]).abs()
            # A padded query may see nothing: its output is zeroed later, but must stay finite.
            own = (apart == 0) & ~valid[:, start:stop, None]
            seen = (apart <= side) & once[:, None, reach] | own
            blocks.append(
                self._attend(
                    query[:, start:stop],
                    torch.cat([far_key, key[:, reach]], dim=1),
                    torch.cat([far_value, value[:, reach]], dim=1),
                    torch.cat([far.expand(-1, stop - start, -1), seen], dim=2),
                )
            )
        return torch.cat(blocks, dim=1)

    def _attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, allowed: torch.Tensor
    ) -> torch.Tensor:
        """Scaled dot-product attention of ``(B, Q, D)`` over ``(B, K, D)`` where ``allowed (B, Q, K)``."""

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


def make_masked(network: LongformerForSequenceClassification, *, auto: bool) -> None:
    """Give every layer of a new Longformer :class:`MaskedSelfAttention`, weights kept.

    ``auto`` chooses the form by length, otherwise it is dense.
    """
    layers: Any = network.longformer.encoder.layer
    for layer in layers:
        attention = layer.attention.self
        attention.__class__ = MaskedSelfAttention
        if auto:
            attention.crossover = max(CROSSOVER, 4 * attention.one_sided_attn_window_size)
    # Only the sliding chunks need lengths that are multiples of the window.
    network.longformer.config.attention_window = 2
