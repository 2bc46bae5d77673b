"""The diagnoser: text and audio woven into one Longformer sequence (paper, section on the diagnoser).

    [CLS] [DESCRIPTION] text … audio places … [SEP]

Audio places hold the BEATs grid through one Linear, time-major, with a learned embedding of their
frequency row. ``[CLS]``, ``[DESCRIPTION]`` and the anchors attend globally. A sample without text or
without audio has no places for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LongformerConfig, LongformerForSequenceClassification
from transformers.utils import ModelOutput

from diagnoser.attention import make_masked
from diagnoser.config import CLS, DESCRIPTION, PAD, SEP, DiagnoserConfig
from diagnoser.weave import Sequence, hide_whole, masks, pack
from training.model import Model

# It announces every padded batch; padding is our daily bread and is tested.
logging.getLogger("transformers.models.longformer.modeling_longformer").setLevel(logging.ERROR)


@dataclass
class DiagnoserOutput(ModelOutput):
    """Loss (with labels) and uncalibrated logits ``(B, C)``."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class Diagnoser(Model):
    """Classifier of clips. Padding of text, audio or batch never changes a logit."""

    config_class = DiagnoserConfig
    config: DiagnoserConfig
    feature_mean: torch.Tensor
    feature_scale: torch.Tensor
    temperature: torch.Tensor
    alone_temperatures: torch.Tensor

    def __init__(self, config: DiagnoserConfig):
        super().__init__(config)
        sizes = config.sizes
        self.longformer = LongformerForSequenceClassification(_longformer_config(config))
        self.projection = nn.Linear(config.feature_dim, sizes.hidden)
        self.row_embedding = nn.Embedding(sizes.rows, sizes.hidden)
        nn.init.normal_(self.row_embedding.weight, std=0.02)
        self.register_buffer("feature_mean", torch.zeros(config.feature_rows, config.feature_dim))
        self.register_buffer("feature_scale", torch.ones(config.feature_rows, config.feature_dim))
        self.register_buffer("temperature", torch.ones(()))
        # Of audio alone and of text alone, as multiples of the temperature of both.
        self.register_buffer("alone_temperatures", torch.ones(2))
        if sizes.attention != "library":
            make_masked(self.longformer, auto=sizes.attention == "auto")
        if sizes.pool == "cls":
            # Only [CLS] leaves the last layer, and it is global: the local projections there cannot
            # reach the output. Frozen, so that what is trainable is what learns.
            layers: Any = self.longformer.longformer.encoder.layer
            last = layers[-1].attention.self
            for module in (last.query, last.key, last.value):
                module.requires_grad_(False)

    def standardise(self, mean: torch.Tensor, scale: torch.Tensor) -> None:
        """Set the features' mean and standard deviation ``(F, D)`` over the training clips.

        Per row, because rows differ far more from each other than clips do.
        """
        self.feature_mean.copy_(mean)
        self.feature_scale.copy_(scale.clamp_min(1e-4))

    def forward(
        self,
        text_ids: torch.Tensor,
        text_mask: torch.Tensor,
        features: torch.Tensor,
        columns: torch.Tensor,
        labels: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
    ) -> DiagnoserOutput:
        """Logits, and with labels the weighted mean cross-entropy.

        Args:
            text_ids: narrative tokens, without special tokens ``(B, N)``; none: audio alone.
            text_mask: which of them are real ``(B, N)``.
            features: BEATs grid ``(B, T, F, D)``; T may be 0.
            columns: real columns of each grid ``(B,)``; 0: text alone.
            labels: class indices ``(B,)``.
            weights: of each sample's loss ``(B,)``.
        """
        sizes, text_mask = self.config.sizes, text_mask.bool()
        if self.training:
            text_mask, columns = hide_whole(
                text_mask, columns, text=sizes.whole_text_dropout, audio=sizes.whole_audio_dropout
            )
        sequence = self.weave(text_ids, text_mask, features, columns)
        encoded = self.longformer.longformer(
            inputs_embeds=sequence.states,
            attention_mask=sequence.attend.long(),
            global_attention_mask=sequence.everywhere.long(),
        ).last_hidden_state
        summary = encoded[:, 0]
        if sizes.pool == "mean":
            heard = (sequence.audio & sequence.attend)[..., None].to(encoded.dtype)
            mean = (encoded * heard).sum(dim=1) / heard.sum(dim=1).clamp_min(1.0)
            summary = torch.where(columns[:, None] > 0, 0.5 * (summary + mean), summary)
        logits = self.longformer.classifier(summary[:, None])
        if labels is None:
            return DiagnoserOutput(logits=logits)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = (losses if weights is None else losses * weights).mean()
        return DiagnoserOutput(loss=loss, logits=logits)

    def set_temperatures(self, both: float, *, audio: float | None = None, text: float | None = None) -> None:
        """Set the temperatures of samples with both modalities, with audio alone and with text alone.

        One that is not given is that of ``both``.
        """
        self.temperature.fill_(both)
        alone = [1.0 if one is None else one / both for one in (audio, text)]
        self.alone_temperatures.copy_(torch.tensor(alone))

    def temperatures(self, present: torch.Tensor) -> torch.Tensor:
        """Temperature of each sample ``(B,)``, from :func:`diagnoser.weave.present` ``(B, 2)``."""
        text, audio = present.unbind(dim=1)
        multiple = torch.ones(len(present), device=present.device)
        multiple = torch.where(audio & ~text, self.alone_temperatures[0], multiple)
        return self.temperature * torch.where(text & ~audio, self.alone_temperatures[1], multiple)

    def probabilities(self, logits: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Calibrated probabilities ``(B, C)``.

        Args:
            logits: ``(B, C)``.
            present: which samples have text and which have audio ``(B, 2)``; None: all have both.
        """
        temperature = self.temperature if present is None else self.temperatures(present)[:, None]
        return torch.softmax(logits / temperature, dim=-1)

    def weave(
        self, text_ids: torch.Tensor, text_mask: torch.Tensor, features: torch.Tensor, columns: torch.Tensor
    ) -> Sequence:
        """The packed sequence of the forward's arguments; text and audio beyond the limits are cut."""
        sizes = self.config.sizes
        text_ids, text_mask = text_ids[:, : sizes.text_tokens], text_mask[:, : sizes.text_tokens]
        features = features[:, : sizes.max_columns]
        table = self.longformer.longformer.get_input_embeddings()

        def special(token: int) -> torch.Tensor:
            return table(torch.full((len(columns), 1), token, device=columns.device))

        audio = self._audio(features)
        given = masks(sizes, text_mask, columns, features.shape[1], training=self.training)
        return pack(
            torch.cat([special(CLS), special(DESCRIPTION), table(text_ids), audio, special(SEP)], 1), given
        )

    def _audio(self, features: torch.Tensor) -> torch.Tensor:
        """Grid ``(B, T, F, D)`` to places ``(B, T x rows, H)``, time-major."""
        rows, merged = self.config.sizes.rows, self.config.feature_rows // self.config.sizes.rows
        standard = (features.to(self.projection.weight.dtype) - self.feature_mean) / self.feature_scale
        pooled = standard.unflatten(2, (rows, merged)).mean(dim=3)
        return (self.projection(pooled) + self.row_embedding.weight).flatten(1, 2)


def _longformer_config(config: DiagnoserConfig) -> LongformerConfig:
    """The library's config; the position table holds the longest padded sequence."""
    sizes = config.sizes
    longest = -(-sizes.places // sizes.window) * sizes.window
    return LongformerConfig(
        attention_window=sizes.window,
        bos_token_id=CLS,
        pad_token_id=PAD,
        sep_token_id=SEP,
        eos_token_id=SEP,
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.inner,
        hidden_dropout_prob=sizes.dropout,
        # Dropout inside attention would forbid the fused CPU kernel; the states' dropout remains.
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=longest + PAD + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        # 0.02 is made for width 768; this is the same share of 1 / sqrt(width) at every width.
        initializer_range=0.02 * (768 / sizes.hidden) ** 0.5,
        num_labels=len(config.classes),  # type: ignore[call-arg]
    )
