"""The diagnoser: text and audio woven into one Longformer sequence (paper, section on the diagnoser).

    [CLS] [DESCRIPTION] text … audio places … [SEP]

Audio places hold the BEATs grid through one Linear, time-major, with a learned embedding of their
frequency row. ``[CLS]``, ``[DESCRIPTION]`` and the anchors attend globally.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LongformerConfig, LongformerForSequenceClassification
from transformers.utils import ModelOutput

from diagnoser.attention import make_dense
from diagnoser.config import CLS, DESCRIPTION, PAD, SEP, DiagnoserConfig
from training.model import Model

# It announces every padded batch; padding is our daily bread and is tested.
logging.getLogger("transformers.models.longformer.modeling_longformer").setLevel(logging.ERROR)


@dataclass
class DiagnoserOutput(ModelOutput):
    """Loss (with labels) and uncalibrated logits ``(B, C)``."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


@dataclass
class Sequence:
    """A packed batch: states ``(B, L, H)``; ``attend``, ``everywhere`` and ``audio`` ``(B, L)`` bool."""

    states: torch.Tensor
    attend: torch.Tensor
    everywhere: torch.Tensor
    audio: torch.Tensor


class Diagnoser(Model):
    """Classifier of clips. Padding of text, audio or batch never changes a logit."""

    config_class = DiagnoserConfig
    config: DiagnoserConfig
    feature_mean: torch.Tensor
    feature_scale: torch.Tensor
    temperature: torch.Tensor

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
        if sizes.attention == "dense":
            make_dense(self.longformer)
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
            text_ids: narrative tokens, without special tokens ``(B, N)``.
            text_mask: which of them are real ``(B, N)``.
            features: BEATs grid ``(B, T, F, D)``.
            columns: real columns of each grid ``(B,)``.
            labels: class indices ``(B,)``.
            weights: of each sample's loss ``(B,)``.
        """
        sequence = pack(self._weave(text_ids, text_mask.bool(), features, columns))
        encoded = self.longformer.longformer(
            inputs_embeds=sequence.states,
            attention_mask=sequence.attend.long(),
            global_attention_mask=sequence.everywhere.long(),
        ).last_hidden_state
        summary = encoded[:, 0]
        if self.config.sizes.pool == "mean":
            heard = (sequence.audio & sequence.attend)[..., None].to(encoded.dtype)
            mean = (encoded * heard).sum(dim=1) / heard.sum(dim=1).clamp_min(1.0)
            summary = 0.5 * (summary + mean)
        logits = self.longformer.classifier(summary[:, None])
        if labels is None:
            return DiagnoserOutput(logits=logits)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")
        loss = (losses if weights is None else losses * weights).mean()
        return DiagnoserOutput(loss=loss, logits=logits)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Calibrated probabilities ``(B, C)``."""
        return torch.softmax(logits / self.temperature, dim=-1)

    def _weave(
        self, text_ids: torch.Tensor, text_mask: torch.Tensor, features: torch.Tensor, columns: torch.Tensor
    ) -> tuple[Sequence, torch.Tensor]:
        """All places in order, padding still inside, and which are real ``(B, L)``."""
        sizes, batch = self.config.sizes, len(columns)
        text_ids, text_mask = text_ids[:, : sizes.text_tokens], text_mask[:, : sizes.text_tokens]
        features = features[:, : sizes.max_columns]
        device, count = columns.device, features.shape[1]
        table = self.longformer.longformer.get_input_embeddings()

        def special(token: int) -> torch.Tensor:
            return table(torch.full((batch, 1), token, device=device))

        audio = self._audio(features)
        present = torch.arange(count, device=device) < columns[:, None]  # (B, T)
        heard, read = present, text_mask
        if self.training:
            heard = present & (torch.rand(present.shape, device=device) >= sizes.audio_dropout)
            read = text_mask & (torch.rand(read.shape, device=device) >= sizes.text_dropout)
        one, nothing = text_mask.new_ones(batch, 1), text_mask.new_zeros(batch, 1)
        no_text = torch.zeros_like(text_mask)

        def places(per_column: torch.Tensor) -> torch.Tensor:
            return per_column.repeat_interleave(sizes.rows, dim=1)

        anchors = (torch.arange(count, device=device) % sizes.anchors.every_columns == 0)[:, None] & (
            torch.arange(sizes.rows, device=device) % (sizes.rows // sizes.anchors.rows) == 0
        )
        real = torch.cat([one, one, text_mask, places(present), one], dim=1)
        attend = torch.cat([one, one, read, places(heard), one], dim=1)
        sequence = Sequence(
            states=torch.cat([special(CLS), special(DESCRIPTION), table(text_ids), audio, special(SEP)], 1),
            attend=attend,
            everywhere=torch.cat([one, one, no_text, anchors.flatten().expand(batch, -1), nothing], 1)
            & attend,
            audio=torch.cat([nothing, nothing, no_text, places(present), nothing], dim=1),
        )
        return sequence, real

    def _audio(self, features: torch.Tensor) -> torch.Tensor:
        """Grid ``(B, T, F, D)`` to places ``(B, T x rows, H)``, time-major."""
        rows = self.config.sizes.rows
        standard = (features.to(self.projection.weight.dtype) - self.feature_mean) / self.feature_scale
        pooled = standard.unflatten(2, (rows, -1)).mean(dim=3)
        return (self.projection(pooled) + self.row_embedding.weight).flatten(1, 2)


def pack(woven: tuple[Sequence, torch.Tensor]) -> Sequence:
    """Move the padding behind each sample's real places, and cut what is padding in all of them.

    Positions and windows are then those of the sample alone, whatever it is batched with.
    """
    sequence, real = woven
    order = torch.argsort((~real).long(), dim=1, stable=True)[:, : int(real.sum(dim=1).max())]
    kept = real.gather(1, order)
    return Sequence(
        states=sequence.states.gather(1, order[..., None].expand(-1, -1, sequence.states.shape[-1])),
        attend=sequence.attend.gather(1, order) & kept,
        everywhere=sequence.everywhere.gather(1, order) & kept,
        audio=sequence.audio.gather(1, order) & kept,
    )


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
