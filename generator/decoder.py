"""The flow decoder: units, label and a reference's timbre → frames of the acoustic codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from generator.config import FlowConfig, check_label
from generator.dit import DiT
from generator.flow import Condition, FlowMatching
from generator.style import StyleTokens, length_mask
from resp229k.audio import RATE
from training.config import Strict
from training.errors import DataError
from training.model import Model

COLUMN = 2560  # samples of one column of the unit grid (160 ms)


@dataclass
class FlowOutput(ModelOutput):
    """``error (B,)`` is each clip's squared velocity error per mel cell; ``loss`` is its mean."""

    loss: Tensor | None = None
    error: Tensor | None = None


class FlowDecoder(Model):
    """Flow matching over mel frames, its DiT, and the condition they share.

    Content is the unit grid: the rows of a column are joined by a learned projection and interpolated
    over time to the frame rate. The clip's vector is its (task, label) plus the timbre: attention-pooled
    features of the reference recording and the mean and deviation of its mel over time, in which the
    recorder's response and noise floor stand. The flow itself runs on the frames' difference from that mean,
    in units of ``config.residual``: timbre is then given, and what is left to learn is content. Guidance amplifies content and label; timbre is kept on
    both sides, so that more guidance never means more of the recorder.
    """

    config_class: ClassVar[type[Strict]] = FlowConfig

    def __init__(self, config: FlowConfig):
        super().__init__(config)
        self.config: FlowConfig = config
        mels = config.codec.dim
        self.flow = FlowMatching(DiT(mels, config.dim, config.layers, config.heads), config.unguided)
        self.unit = nn.Embedding(config.codebook, config.unit_dim)
        self.rows = nn.Linear(config.unit_dim * config.rows, config.dim)
        self.label = nn.Embedding(len(config.pairs), config.dim)
        self.timbre = StyleTokens(config.feature_dim, config.dim, 1)
        self.spectrum = nn.Sequential(
            nn.Linear(2 * mels, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.free_content = nn.Parameter(torch.zeros(config.dim))
        self.free_label = nn.Parameter(torch.zeros(config.dim))
        nn.init.normal_(self.label.weight, std=0.02)

    def label_index(self, task: str, label: str) -> int:
        """Row of a label in the embedding.

        Raises:
            DataError: the task or label was not trained.
        """
        check_label(self.config.labels, task, label)
        return self.config.pairs.index((task, label))

    def interpolate(self, grid: Tensor, columns: Tensor, frames: int) -> Tensor:
        """Linear interpolation of ``(B, T, d)`` over time to ``(B, L, d)``, between column centres.

        Before the first and behind the last real column of a clip its value is held.
        """
        ratio = COLUMN * self.config.codec.frame_rate / RATE
        place = (torch.arange(frames, device=grid.device) + 0.5) / ratio - 0.5
        place = torch.minimum(place.clamp(min=0)[None], (columns - 1)[:, None].to(place))
        left = place.floor().long()
        right = torch.minimum(left + 1, (columns - 1)[:, None])
        share = (place - left)[..., None]
        wide = (-1, -1, grid.shape[2])
        return (1 - share) * grid.gather(1, left[..., None].expand(wide)) + share * grid.gather(
            1, right[..., None].expand(wide)
        )

    def mean(self, spectrum: Tensor) -> Tensor:
        """The references' mean frames ``(B, 1, M)``."""
        return spectrum[:, None, : self.config.codec.dim]

    def condition(
        self,
        units: Tensor,
        columns: Tensor,
        label: Tensor,
        features: Tensor,
        feature_columns: Tensor,
        spectrum: Tensor,
        frames: Tensor,
        size: int,
    ) -> Condition:
        """Build the condition; arguments as in :meth:`forward`, ``size`` is the padded L."""
        joined = self.rows(self.unit(units).flatten(2))
        content = self.interpolate(joined, columns, size)
        timbre = self.timbre(features, feature_columns)[:, 0] + self.spectrum(spectrum)
        free = self.free_content.expand_as(content)
        return Condition(
            content, timbre + self.label(label), free, timbre + self.free_label, length_mask(frames, size)
        )

    def forward(
        self,
        units: Tensor,
        columns: Tensor,
        label: Tensor,
        features: Tensor,
        feature_columns: Tensor,
        spectrum: Tensor,
        mel: Tensor,
        frames: Tensor,
    ) -> FlowOutput:
        """Flow-matching loss over real frames.

        Args:
            units: ``(B, T, F)``, padded in T.
            columns: ``(B,)`` real columns.
            label: ``(B,)`` from :meth:`label_index`.
            features: ``(B, T', F, D)`` of the references.
            feature_columns: ``(B,)``.
            spectrum: ``(B, 2 M)`` mean and deviation over time of the references' mels.
            mel: target frames ``(B, L, M)``, padded in L.
            frames: ``(B,)`` real frames.
        """
        condition = self.condition(
            units, columns, label, features, feature_columns, spectrum, frames, mel.shape[1]
        )
        error = self.flow.loss((mel - self.mean(spectrum)) / self.config.residual, condition)
        return FlowOutput(error.mean(), error)

    @torch.no_grad()
    def sample(
        self,
        units: Tensor,
        columns: Tensor,
        label: Tensor,
        features: Tensor,
        feature_columns: Tensor,
        spectrum: Tensor,
        noise: Sequence[Tensor],
        *,
        steps: int = 4,
        method: str = "midpoint",
        guidance: float = 2.0,
        sway: float = 0.0,
    ) -> list[Tensor]:
        """Frames ``(L, M)`` of each clip, from its own noise ``(L, M)``; conditions as in :meth:`forward`.

        Raises:
            DataError: a noise has other frames than the codec.
        """
        if any(n.shape[1] != self.config.codec.dim for n in noise):
            raise DataError(f"noise must have {self.config.codec.dim} mels")
        frames = torch.tensor([n.shape[0] for n in noise], device=units.device)
        start = nn.utils.rnn.pad_sequence(list(noise), batch_first=True).to(units.device)
        condition = self.condition(
            units, columns, label, features, feature_columns, spectrum, frames, start.shape[1]
        )
        out = self.flow.sample(start, condition, steps=steps, method=method, guidance=guidance, sway=sway)
        out = out * self.config.residual + self.mean(spectrum)
        return [x[:n] for x, n in zip(out, frames.tolist(), strict=True)]
