"""The encoder with heads that name the events it hears; only the encoder is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from beats.config import TAGS
from beats.encoder import BeatsEncoder
from beats.frames import FrameRows
from training.fit import validation


@dataclass
class TaggerOutput(ModelOutput):
    """Loss, logits ``(B, T, E)`` and ``(B, E)``, and the targets they were held against."""

    loss: torch.FloatTensor | None = None
    column_logits: Tensor | None = None
    clip_logits: Tensor | None = None
    column_tags: Tensor | None = None
    clip_tags: Tensor | None = None


class EventTagger(nn.Module):
    """Tags per column and per clip from the encoder's features.

    A column holds an event when one of its frequency rows does (a soft maximum over rows); a clip is
    read from the mean and the maximum over all places.
    """

    def __init__(self, encoder: BeatsEncoder, weight: Tensor):
        super().__init__()
        self.encoder = encoder
        self.column_head = nn.Linear(encoder.width, len(TAGS))
        self.clip_head = nn.Linear(2 * encoder.width, len(TAGS))
        self.register_buffer("weight", weight)  # of positive targets, (E,)

    def forward(
        self,
        frames: Tensor | None = None,
        counts: Tensor | None = None,
        column_tags: Tensor | None = None,
        clip_tags: Tensor | None = None,
    ) -> TaggerOutput:
        """Loss and logits of filterbank frames ``(B, L, 128)``, all clips of one length."""
        assert frames is not None and counts is not None
        assert column_tags is not None and clip_tags is not None
        features = self.encoder.encode_frames(frames, counts).features
        columns = self.column_head(features).logsumexp(dim=2)
        places = features.flatten(1, 2)
        clips = self.clip_head(torch.cat([places.mean(1), places.amax(1)], dim=-1))
        loss = self._loss(columns, column_tags) + self._loss(clips, clip_tags)
        return TaggerOutput(loss, columns, clips, column_tags, clip_tags)  # type: ignore[arg-type]

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy over the targets that are said (not NaN)."""
        said = ~targets.isnan()
        weight: Any = self.weight
        losses = F.binary_cross_entropy_with_logits(
            logits, targets.nan_to_num(), pos_weight=weight, reduction="none"
        )
        return (losses * said).sum() / said.sum().clamp(min=1)


def positive_weight(targets: Tensor) -> Tensor:
    """Weight of positives per tag, √(absent / present) in [1, 6], of clip targets ``(N, E)``."""
    present, absent = (targets == 1).sum(0), (targets == 0).sum(0)
    return (absent / present.clamp(min=1)).sqrt().clamp(1.0, 6.0)


def tag_auc(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Area under the ROC per tag that occurs and is absent, from rows ``(N, E)``; NaN targets are left out."""
    from sklearn.metrics import roc_auc_score

    areas: dict[str, float] = {}
    for index, tag in enumerate(TAGS):
        said = ~np.isnan(targets[:, index])
        truth = targets[said, index]
        if 0 < truth.sum() < truth.size:
            areas[tag] = float(roc_auc_score(truth, logits[said, index]))
    return areas


def mean_clip_auc(outputs: list[Any]) -> float:
    """Mean area over tags at clip level; what training selects on."""
    logits = torch.cat([output.clip_logits for output in outputs]).numpy()
    targets = torch.cat([output.clip_tags for output in outputs]).numpy()
    areas = tag_auc(logits, targets)
    return float(np.mean(list(areas.values()))) if areas else 0.0


def tag_scores(
    tagger: EventTagger, valid: FrameRows, collate: Callable[..., Any], batch_size: int
) -> dict[str, Any]:
    """Event AUC per corpus and tag, per clip and per column; ``event_auc`` is the mean over corpora."""
    outputs: list[Any] = []

    def collect(found: list[Any]) -> float:
        outputs.extend(found)
        return 0.0

    with torch.no_grad():
        validation(valid, collate, batch_size, collect)(tagger)
    names = np.array([valid.data.corpus[row] for row in valid.rows])
    per_corpus: dict[str, Any] = {}
    for name in sorted(set(names)):
        here = torch.from_numpy(names == name)
        areas = {}
        for level in ("clip", "column"):
            logits = torch.cat([output[f"{level}_logits"] for output in outputs])[here].flatten(0, -2)
            targets = torch.cat([output[f"{level}_tags"] for output in outputs])[here].flatten(0, -2)
            areas[level] = tag_auc(logits.numpy(), targets.numpy())
        per_corpus[name] = areas
    means = [np.mean(list(a["clip"].values())) for a in per_corpus.values() if a["clip"]]
    return {"event_auc": float(np.mean(means)) if means else 0.0, "per_corpus": per_corpus}
