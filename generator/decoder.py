"""The flow decoder: units, label and a reference's timbre → frames of the acoustic codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from generator.config import FlowConfig, Method, check_label
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
    """``error (B,)`` is each clip's squared velocity error per value of its frames; ``loss`` is its mean."""

    loss: Tensor | None = None
    error: Tensor | None = None


class FlowDecoder(Model):
    """Flow matching over an acoustic codec's frames, its DiT, and the condition they share.

    Content is the unit grid: the rows of a column are joined by a learned projection and interpolated
    over time to the frame rate. The clip's vector is its (task, label) plus the timbre: attention-pooled
    features of the reference recording and the mean and deviation of its frames over time, in which the
    recorder's response and noise floor stand. The flow itself runs on the frames' difference from that mean,
    in units of ``config.residual``: timbre is then given, and what is left to learn is content. Guidance
    amplifies content and label; timbre is kept on both sides, so that more guidance never means more of the
    recorder.

    With ``config.content`` "none" units do not matter: label and timbre are all there is. With
    ``config.prefix`` frames of the reference may stand before those of the clip, as in the paper; they are
    the reference's and not the clip's own, so that what is learnt from them is what sampling can give, and
    never the clip's own sounds. They bear no loss, stay what they are in sampling, and are cut off.
    """

    config_class: ClassVar[type[Strict]] = FlowConfig

    def __init__(self, config: FlowConfig):
        super().__init__(config)
        self.config: FlowConfig = config
        size = config.codec.dim
        outputs = 2 * size if config.predict == "texture" else size
        dit = DiT(size, outputs, config.dim, config.layers, config.heads, config.patch)
        self.flow = FlowMatching(dit, config.unguided, config.predict, config.times)
        if config.content == "units":
            self.unit = nn.Embedding(config.codebook, config.unit_dim)
            self.rows = nn.Linear(config.unit_dim * config.rows, config.dim)
        self.label = nn.Embedding(len(config.pairs), config.dim)
        self.timbre = StyleTokens(config.feature_dim, config.dim, 1)
        self.spectrum = nn.Sequential(
            nn.Linear(2 * size, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.free_content = nn.Parameter(torch.zeros(config.dim))
        self.free_label = nn.Parameter(torch.zeros(config.dim))
        if config.prefix:
            self.given = nn.Parameter(torch.zeros(config.dim))
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

    def residual(self, frames: Tensor, spectrum: Tensor) -> Tensor:
        """Frames ``(B, L, M)`` as the flow sees them."""
        return (frames - self.mean(spectrum)) / self.config.residual

    def mean(self, spectrum: Tensor) -> Tensor:
        """The references' mean frames ``(B, 1, M)``."""
        return spectrum[:, None, : self.config.codec.dim]

    def condition(
        self,
        units: Tensor | None,
        columns: Tensor | None,
        label: Tensor,
        features: Tensor,
        feature_columns: Tensor,
        spectrum: Tensor,
        frames: Tensor,
        size: int,
        prefix_frames: Tensor | None = None,
    ) -> Condition:
        """Build the condition; arguments as in :meth:`forward`, ``size`` is the padded L."""
        timbre = self.timbre(features, feature_columns)[:, 0] + self.spectrum(spectrum)
        free = self.free_content.expand(len(frames), size, -1)
        content = free
        if self.config.content == "units":
            if units is None or columns is None:
                raise DataError("this flow decoder is trained on units and needs them")
            content = self.interpolate(self.rows(self.unit(units).flatten(2)), columns, size)
        mask, given = length_mask(frames, size), None
        if prefix_frames is not None:
            held = self.given.expand(len(frames), int(prefix_frames.max()), -1)
            content = append(held, prefix_frames, content, frames)
            free = append(held, prefix_frames, free, frames)
            mask = length_mask(prefix_frames + frames, content.shape[1])
            given = length_mask(prefix_frames, content.shape[1])
        return Condition(content, timbre + self.label(label), free, timbre + self.free_label, mask, given)

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
        prefix: Tensor | None = None,
        prefix_frames: Tensor | None = None,
    ) -> FlowOutput:
        """Flow-matching loss over real frames that are not given.

        Args:
            units: ``(B, T, F)``, padded in T.
            columns: ``(B,)`` real columns.
            label: ``(B,)`` from :meth:`label_index`.
            features: ``(B, T', F, D)`` of the references.
            feature_columns: ``(B,)``.
            spectrum: ``(B, 2 M)`` mean and deviation over time of the references' frames.
            mel: target frames ``(B, L, M)`` of the codec, padded in L.
            frames: ``(B,)`` real frames.
            prefix: frames ``(B, P, M)`` of the references, padded in P.
            prefix_frames: ``(B,)`` real ones of them.
        """
        condition = self.condition(
            units, columns, label, features, feature_columns, spectrum, frames, mel.shape[1], prefix_frames
        )
        x1 = self.residual(mel, spectrum)
        if prefix is not None and prefix_frames is not None:
            x1 = append(self.residual(prefix, spectrum), prefix_frames, x1, frames)
        error = self.flow.loss(x1, condition)
        return FlowOutput(error.mean(), error)

    @torch.no_grad()
    def sample(
        self,
        units: Tensor | None,
        columns: Tensor | None,
        label: Tensor,
        features: Tensor,
        feature_columns: Tensor,
        spectrum: Tensor,
        noise: Sequence[Tensor],
        *,
        prefix: Tensor | None = None,
        prefix_frames: Tensor | None = None,
        steps: int | None = 4,
        method: Method = "midpoint",
        guidance: float = 2.0,
        sway: float = 0.0,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> list[Tensor]:
        """Frames ``(L, M)`` of each clip, from its own noise ``(L, M)``; conditions as in :meth:`forward`.

        Raises:
            DataError: a noise has other values than the codec's frames, or units are missing.
            ConfigError: steps, sway or tolerances that are not the method's.
        """
        if any(n.shape[1] != self.config.codec.dim for n in noise):
            raise DataError(f"noise must have {self.config.codec.dim} values a frame")
        frames = torch.tensor([n.shape[0] for n in noise], device=label.device)
        start = nn.utils.rnn.pad_sequence(list(noise), batch_first=True).to(label.device)
        condition = self.condition(
            units, columns, label, features, feature_columns, spectrum, frames, start.shape[1], prefix_frames
        )
        first = torch.zeros_like(frames)
        if prefix is not None and prefix_frames is not None:
            first = prefix_frames
            start = append(self.residual(prefix, spectrum), prefix_frames, start, frames)
        out = self.flow.sample(
            start,
            condition,
            steps=steps,
            method=method,
            guidance=guidance,
            sway=sway,
            rtol=rtol,
            atol=atol,
        )
        out = out * self.config.residual + self.mean(spectrum)
        return [x[p : p + n] for x, p, n in zip(out, first.tolist(), frames.tolist(), strict=True)]


def append(first: Tensor, counts: Tensor, second: Tensor, lengths: Tensor) -> Tensor:
    """Join ``(B, P, d)`` and ``(B, L, d)`` clip by clip, without their padding, to ``(B, ≤ P + L, d)``."""
    parts = zip(first, counts.tolist(), second, lengths.tolist(), strict=True)
    return nn.utils.rnn.pad_sequence([torch.cat([a[:n], b[:m]]) for a, n, b, m in parts], batch_first=True)
