"""Resp-MLLM: a language model that continues "task, label, style" with a grid of units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from generator import lm
from generator.config import MLLMConfig
from generator.decode import decoder, guided, nucleus
from generator.prompt import PromptText
from generator.style import AverageStyle, StyleTokens, length_mask
from training.config import Strict, expand
from training.errors import ConfigError, DataError, NonFiniteError
from training.model import Model

TOKENIZER = "tokenizer"  # folder of a base's, beside the weights


@dataclass
class MLLMOutput(ModelOutput):
    """``nll`` (nats) and ``units`` count the units of each clip, without its END."""

    loss: Tensor | None = None
    nll: Tensor | None = None  # (B,)
    units: Tensor | None = None  # (B,)


class RespMLLM(Model):
    """Language model over units.

    Sequence: P places of text, K style tokens, then one place per unit in time-major order over the
    T x F grid. Units have their own embedding and their own head beside the text vocabulary of the language
    model, and the input of a place is the previous unit plus learned vectors for the row and the column of
    the unit *to come*. The head also knows END, which is trained but not waited for in sampling: a clip's
    duration is asked for, and is given exactly.

    Raises:
        CheckpointError: the base cannot be read, or cannot be fed with units.
        ConfigError: the architecture or the targets of LoRA do not exist, or the base's sequences are too short.
    """

    config_class: ClassVar[type[Strict]] = MLLMConfig

    def __init__(self, config: MLLMConfig):
        super().__init__(config)
        self.config: MLLMConfig = config
        self.tokenizer: Any = None  # of a base
        self.lm = self._language_model()
        width = lm.width(self.lm)
        kind = StyleTokens if config.style == "attention" else AverageStyle
        self.style = kind(config.feature_dim, width, config.style_tokens)
        self.end = config.codebook  # class of the head
        self.start, self.mask = config.codebook, config.codebook + 1  # rows of the input embedding
        self.unit = nn.Embedding(config.codebook + 2, width)
        self.row = nn.Embedding(config.rows, width)
        self.column = nn.Embedding(config.columns + 1, width)
        self.head = nn.Linear(width, config.codebook + 1)
        for table in (self.unit, self.row, self.column):
            nn.init.normal_(table.weight, std=0.02)
        # What stands in for a text or a style that is left out.
        if config.label_dropout:
            self.free_text = nn.Parameter(0.02 * torch.randn(width))
        if config.style_dropout:
            self.free_style = nn.Parameter(0.02 * torch.randn(config.style_tokens, width))

    def _language_model(self) -> PreTrainedModel:
        """Build or read it; a base's path does not stay in the config, its own config does."""
        c = self.config
        if c.lm is not None:  # read from weights: they bring the tokenizer
            return lm.bare(lm.from_record(c.lm))
        if c.base is None:
            self.read_text()
            return lm.bare(lm.fresh(c, self.text.size, self.text.places + self._longest))
        folder = expand(c.base)
        base = lm.bare(lm.read_base(folder), folder)
        self.tokenizer = lm.read_tokenizer(folder)
        self.read_text()
        self.config = c.model_copy(update={"base": folder.name, "lm": lm.to_record(base)})
        most = getattr(base.config, "max_position_embeddings", None)
        if most is not None and most < self.text.places + self._longest:
            raise ConfigError(
                f"the base {folder.name} has {most} places, {self.text.places + self._longest} are needed",
                cure="choose a base of longer sequences, or shorter clips",
            )
        if c.lora is not None:
            lm.adapt(base, c.lora)
        return base

    def read_text(self) -> None:
        """Make the prompts' text of the labels, in the tokenizer's words."""
        kinds = self.config.kinds if self.config.events else ()
        self.text = PromptText(self.config.labels, kinds, self.tokenizer)

    @property
    def _longest(self) -> int:
        """Places behind the text."""
        return self.config.style_tokens + self.places + 1

    @property
    def places(self) -> int:
        """Units of the longest clip."""
        return self.config.columns * self.config.rows

    def prompt(
        self,
        text: Tensor,
        features: Tensor,
        feature_columns: Tensor,
        *,
        no_text: Tensor | None = None,
        no_style: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, P + K, H)`` and mask ``(B, P + K)`` of the prompt.

        Args:
            text: ``(B, P)`` ids from :class:`PromptText`.
            features: ``(B, T, F, D)`` of the style reference.
            feature_columns: ``(B,)`` real columns of it.
            no_text: ``(B,)`` true where the text is left out; its length does not show then.
            no_style: ``(B,)`` true where the style is left out.
        """
        words = self.lm.get_input_embeddings()(text.clamp(min=0))
        style = self.style(features, feature_columns)
        mask = torch.cat([text >= 0, torch.ones_like(text[:, :1]).expand(-1, style.shape[1]) > 0], dim=1)
        if no_text is not None:
            words = torch.where(no_text[:, None, None], self.free_text, words)
            mask = mask | no_text[:, None]
        if no_style is not None:
            style = torch.where(no_style[:, None, None], self.free_style, style)
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
        left_out = {}
        for name, share in (("no_text", self.config.label_dropout), ("no_style", self.config.style_dropout)):
            if self.training and share:
                left_out[name] = torch.rand(len(text), device=text.device) < share
        prompt, mask = self.prompt(text, features, feature_columns, **left_out)
        real = length_mask(columns * self.config.rows + 1, inputs.shape[1])
        output = lm.body(self.lm)(
            inputs_embeds=torch.cat([prompt, self.places_in(inputs, 0)], dim=1),
            attention_mask=torch.cat([mask, real], dim=1).long(),
            use_cache=False,
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
        label_guidance: float | None = None,
        style_guidance: float | None = None,
    ) -> Tensor:
        """Draw units, a whole batch at a time, with a key-value cache.

        Guidance adds (scale - 1) times the difference between the logits and those without text or style; the
        batch is doubled or tripled for it.

        Args:
            text: ``(B, P)``.
            features: ``(B, T', F, D)`` of the style references.
            feature_columns: ``(B,)``.
            uniforms: ``(B, T·F)`` in [0, 1), one per unit; they alone decide the draw, so that a clip
                comes out the same in any batch.
            temperature: below 1 sharpens.
            top_p: nucleus.
            label_guidance: scale away from the logits without text; 1: no guidance; none: what the weights
                were made for, ``label_guidance`` of their config.
            style_guidance: the same of the style; none: no guidance.

        Returns:
            ``(B, T, F)`` int64.

        Raises:
            DataError: longer than the weights allow.
            ConfigError: guidance that the weights were not trained for.
            NonFiniteError: the weights give logits that are no numbers.
        """
        if label_guidance is None:
            label_guidance = self.config.label_guidance
        self.config.check_guidance(label_guidance, style_guidance)
        batch, total = uniforms.shape
        if total > self.places:
            raise DataError(f"{total} units are more than the model's {self.places}")
        prompts = [self.prompt(text, features, feature_columns)]
        scales = []
        for name, scale in (("no_text", label_guidance), ("no_style", style_guidance)):
            if scale not in (None, 1):
                left_out = {name: torch.ones_like(text[:, 0], dtype=torch.bool)}
                prompts.append(self.prompt(text, features, feature_columns, **left_out))
                scales.append(scale)
        embeds, mask = (torch.cat(parts) for parts in zip(*prompts, strict=True))
        inputs = torch.full((len(embeds), 1), self.start, device=text.device)
        embeds = torch.cat([embeds, self.places_in(inputs, 0)], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        state = decoder(lm.body(self.lm), embeds, mask, total - 1)
        drawn = torch.empty(batch, total, dtype=torch.long, device=text.device)
        for place in range(total):
            logits = guided(self.head(state.hidden)[:, : self.end], scales) / temperature
            if not logits.isfinite().all():
                raise NonFiniteError(
                    "the Resp-MLLM gave logits that are no numbers",
                    cure="its training diverged: take other weights; or temperature and guidance are too extreme",
                )
            drawn[:, place] = nucleus(logits, uniforms[:, place], top_p)
            if place + 1 < total:
                units = drawn[:, place : place + 1].repeat(len(prompts), 1)
                state.step(self.places_in(units, place + 1)[:, 0])
        return drawn.view(batch, -1, self.config.rows)

    def save_pretrained(self, folder: Path, *, half: bool = False) -> None:
        """Write as any network, with a base's tokenizer, and without adapters: they are merged into the base.

        The weights then need neither the base's folder nor peft, and run at the speed of the base.
        """
        if self.config.lora is not None:
            return self.merged().save_pretrained(folder, half=half)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder / TOKENIZER)
        return super().save_pretrained(folder, half=half)

    def merged(self) -> Self:
        """A copy with the adapters of LoRA added to the layers they stand beside."""
        plain = type(self)(self.config.model_copy(update={"lora": None}))
        plain.load_state_dict(lm.merged(self.state_dict(), self.lm, "lm."), strict=True)
        notes = {**self.provenance.notes, "lora": self.config.lora.model_dump() if self.config.lora else None}
        plain.provenance = self.provenance.model_copy(update={"notes": notes})
        plain.tokenizer, plain.text = self.tokenizer, self.text
        return plain.eval()

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """As any network, with the tokenizer of its base, if it has one."""
        model = super().from_pretrained(folder)
        if model.config.base is not None:
            model.tokenizer = lm.read_tokenizer(folder / TOKENIZER)
            model.read_text()
        return model
