"""Several processes that share a diagnoser's weights must call the same parts in the same order.

ZeRO 3 gathers a part's weights when it is called, on all processes at once. The library embeds padding
where a sequence's length does not suit it, and lengths differ between the processes' parts of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from transformers.models.longformer.modeling_longformer import LongformerModel

from diagnoser.model import Diagnoser


class SteadyLongformer(LongformerModel):
    """The library's model, given only lengths that it leaves alone."""

    def forward(
        self,
        *,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        global_attention_mask: torch.Tensor,
    ) -> Any:
        """As the library's, of states ``(B, L, H)`` and masks ``(B, L)``; padding never changes a place."""
        length, windows = inputs_embeds.shape[1], self.config.attention_window
        missing = -length % (windows if isinstance(windows, int) else max(windows))
        output: Any = super().forward(
            inputs_embeds=F.pad(inputs_embeds, (0, 0, 0, missing)),
            attention_mask=F.pad(attention_mask, (0, missing)),
            global_attention_mask=F.pad(global_attention_mask, (0, missing)),
        )
        output.last_hidden_state = output.last_hidden_state[:, :length]
        return output


def keep_in_step(model: Diagnoser) -> None:
    """Let every batch call the same parts of a diagnoser, weights kept.

    One process does not need it, and draws of dropout for the padding would change with it.
    """
    inner: Any = model.longformer.longformer
    inner.__class__ = SteadyLongformer
