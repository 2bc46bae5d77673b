"""Resp-MLLM: a small Qwen3 that continues "task, label, style" with a grid of units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import ModelOutput

from generator.config import MLLMConfig
from generator.prompt import PromptText
from generator.style import StyleTokens, length_mask
from training.config import Strict
from training.errors import DataError
from training.model import Model


@dataclass
class MLLMOutput(ModelOutput):
    """``nll`` (nats) and ``units`` count the units of each clip, without its END."""

    loss: Tensor | None = None
    nll: Tensor | None = None  # (B,)
    units: Tensor | None = None  # (B,)


class RespMLLM(Model):
    """Language model over units.

    Sequence: P places of text, K style tokens, then one place per unit in time-major order over the
    T x F grid. Units have their own embedding and their own head beside Qwen3's text vocabulary, and
    the input of a place is the previous unit plus learned vectors for the row and the column of the
    unit *to come*. The head also knows END, which is trained but not waited for in sampling: a clip's
    duration is asked for, and is given exactly.
    """

    config_class: ClassVar[type[Strict]] = MLLMConfig

    def __init__(self, config: MLLMConfig):
        super().__init__(config)
        self.config: MLLMConfig = config
        self.text = PromptText(config.labels)
        self.lm = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=self.text.size,
                hidden_size=config.hidden,
                intermediate_size=config.intermediate,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.kv_heads,
                head_dim=config.hidden // config.heads,
                max_position_embeddings=self.text.places + config.style_tokens + self.places + 1,
                tie_word_embeddings=True,
                use_cache=False,
                pad_token_id=0,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        self.style = StyleTokens(config.feature_dim, config.hidden, config.style_tokens)
        self.end = config.codebook  # class of the head
        self.start, self.mask = config.codebook, config.codebook + 1  # rows of the input embedding
        self.unit = nn.Embedding(config.codebook + 2, config.hidden)
        self.row = nn.Embedding(config.rows, config.hidden)
        self.column = nn.Embedding(config.columns + 1, config.hidden)
        self.head = nn.Linear(config.hidden, config.codebook + 1)
        for table in (self.unit, self.row, self.column):
            nn.init.normal_(table.weight, std=0.02)

    @property
    def places(self) -> int:
        """Units of the longest clip."""
        return self.config.columns * self.config.rows

    def prompt(self, text: Tensor, features: Tensor, feature_columns: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, P + K, H)`` and mask ``(B, P + K)`` of the prompt.

        Args:
            text: ``(B, P)`` ids from :class:`PromptText`.
            features: ``(B, T, F, D)`` of the style reference.
            feature_columns: ``(B,)`` real columns of it.
        """
        words = self.lm.get_input_embeddings()(text)
        style = self.style(features, feature_columns)
        mask = torch.cat([text != 0, torch.ones_like(text[:, :1]).expand(-1, style.shape[1]) > 0], dim=1)
        return torch.cat([words, style], dim=1), mask

    def places_in(self, inputs: Tensor, first: int) -> Tensor:
        """Embed input ids ``(B, n)`` standing at the unit places ``first, first + 1, …``."""
        place = torch.arange(first, first + inputs.shape[1], device=inputs.device)
        rows = self.config.rows
        return self.unit(inputs) + self.row(place % rows) + self.column(place // rows)

    def logits(
        self, text: Tensor, features: Tensor, feature_columns: Tensor, units: Tensor, columns: Tensor
    ) -> Tensor:
        """Logits ``(B, T·F + 1, codebook + 1)``: place i speaks of unit i, the place after the last of END."""
        flat = units.flatten(1)
        inputs = functional.pad(flat, (1, 0), value=self.start)
        if self.training and self.config.unit_mask > 0:
            hidden = torch.rand(flat.shape, device=flat.device) < self.config.unit_mask
            inputs = torch.cat([inputs[:, :1], inputs[:, 1:].masked_fill(hidden, self.mask)], dim=1)
        prompt, mask = self.prompt(text, features, feature_columns)
        real = length_mask(columns * self.config.rows + 1, inputs.shape[1])
        output = self.lm.model(
            inputs_embeds=torch.cat([prompt, self.places_in(inputs, 0)], dim=1),
            attention_mask=torch.cat([mask, real], dim=1).long(),
        )
        return self.head(output.last_hidden_state[:, prompt.shape[1] :])

    def forward(
        self, text: Tensor, features: Tensor, feature_columns: Tensor, units: Tensor, columns: Tensor
    ) -> MLLMOutput:
        """Mean cross-entropy over units and END; prompt and padding bear no loss.

        Args:
            text: ``(B, P)``.
            features: ``(B, T', F, D)``, padded in T'.
            feature_columns: ``(B,)``.
            units: ``(B, T, F)`` targets, padded in T.
            columns: ``(B,)`` real columns of them.

        Raises:
            DataError: the grid is longer than the config allows.
        """
        if units.shape[1] > self.config.columns:
            raise DataError(
                f"a grid of {units.shape[1]} columns is longer than the model's {self.config.columns}"
            )
        logits = self.logits(text, features, feature_columns, units, columns)
        counts = columns * self.config.rows
        targets = functional.pad(units.flatten(1), (0, 1))
        targets = targets.scatter(1, counts[:, None], self.end)
        nll = functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        real = length_mask(counts + 1, nll.shape[1])
        loss = (nll * real).sum() / real.sum()
        return MLLMOutput(loss, (nll * length_mask(counts, nll.shape[1])).sum(1), counts)

    @torch.no_grad()
    def sample(
        self,
        text: Tensor,
        features: Tensor,
        feature_columns: Tensor,
        uniforms: Tensor,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> Tensor:
        """Draw units, a whole batch at a time, with a key-value cache.

        Args:
            text: ``(B, P)``.
            features: ``(B, T', F, D)`` of the style references.
            feature_columns: ``(B,)``.
            uniforms: ``(B, T·F)`` in [0, 1), one per unit; they alone decide the draw, so that a clip
                comes out the same in any batch.
            temperature: below 1 sharpens.
            top_p: nucleus.

        Returns:
            ``(B, T, F)`` int64.

        Raises:
            DataError: longer than the weights allow.
        """
        batch, total = uniforms.shape
        if total > self.places:
            raise DataError(f"{total} units are more than the model's {self.places}")
        embeds, mask = self.prompt(text, features, feature_columns)
        inputs = torch.full((batch, 1), self.start, device=text.device)
        embeds = torch.cat([embeds, self.places_in(inputs, 0)], dim=1)
        mask = torch.cat([mask, torch.ones(batch, total, dtype=torch.bool, device=text.device)], dim=1).long()
        cache = DynamicCache(config=self.lm.config)
        drawn = torch.empty(batch, total, dtype=torch.long, device=text.device)
        seen = 0
        for place in range(total):
            seen += embeds.shape[1]
            output = self.lm.model(
                inputs_embeds=embeds, attention_mask=mask[:, :seen], past_key_values=cache, use_cache=True
            )
            logits = self.head(output.last_hidden_state[:, -1])[:, : self.end]
            drawn[:, place] = nucleus(logits / temperature, uniforms[:, place], top_p)
            if place + 1 < total:
                embeds = self.places_in(drawn[:, place : place + 1], place + 1)
        return drawn.view(batch, -1, self.config.rows)


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
