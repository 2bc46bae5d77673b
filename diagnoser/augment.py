"""Augmentation of training batches on the feature grid. Its draws come from torch's global generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from diagnoser.config import AugmentConfig, DiagnoserTrainConfig
from diagnoser.data import ClipDataset, Sample, collate, feature_statistics
from diagnoser.model import Diagnoser

Batch = dict[str, torch.Tensor]


def training_collate(
    config: DiagnoserTrainConfig, model: Diagnoser, train: ClipDataset
) -> Callable[[list[Any]], dict[str, Any]]:
    """How training samples become a batch."""
    how = config.augment
    if not (how.mixup or how.time_masks or how.row_masks):
        return collate
    fill = feature_statistics(train)[0] if config.tune_encoder else model.feature_mean
    return AugmentedCollate(how, len(model.config.classes), fill)


class AugmentedCollate:
    """:func:`collate`, then what the config asks for.

    Args:
        config: at least one kind is on.
        classes: number of classes C.
        fill: what a mask leaves, the mean of the training clips ``(F, D)``.
    """

    def __init__(self, config: AugmentConfig, classes: int, fill: torch.Tensor):
        self.config, self.classes, self.fill = config, classes, fill.cpu()

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        """A batch of :class:`diagnoser.losses.Learner`."""
        batch, how = collate(samples), self.config
        if how.mixup:
            share = torch.distributions.Beta(how.mixup, how.mixup).sample((len(samples),))
            partner = torch.randperm(len(samples))
            # The narrative stays a clip's own, so the clip stays the larger part.
            batch = mixed(batch, torch.maximum(share, 1 - share), partner, self.classes)
        if how.time_masks or how.row_masks:
            batch["features"] = masked(batch["features"], batch["columns"], how, self.fill)
        return batch


def mixed(batch: Batch, share: torch.Tensor, partner: torch.Tensor, classes: int) -> Batch:
    """Mixup: each clip's grid and label with its partner's.

    A clip keeps its length, so padding stays padding. A longer partner is cut, a shorter one starts
    again: every real column of a mixture holds both.

    Args:
        batch: with ``labels``; instead of these and ``weights`` the result has ``targets (B, C)``.
        share: of the clip itself ``(B,)``; the rest is the partner's.
        partner: index into the batch ``(B,)``.
        classes: number of classes C.
    """
    grids, columns = batch["features"], batch["columns"]
    time = torch.arange(grids.shape[1])
    others = grids[partner[:, None], time % columns[partner][:, None]]
    wide = share[:, None, None, None]
    real = (time < columns[:, None])[..., None, None]
    targets = F.one_hot(batch["labels"], classes).float()
    if "weights" in batch:
        targets = targets * batch["weights"][:, None]
    rest = {name: value for name, value in batch.items() if name not in ("labels", "weights")}
    return {
        **rest,
        "features": torch.where(real, wide * grids + (1 - wide) * others, grids),
        "targets": share[:, None] * targets + (1 - share[:, None]) * targets[partner],
    }


def masked(
    grids: torch.Tensor, columns: torch.Tensor, how: AugmentConfig, fill: torch.Tensor
) -> torch.Tensor:
    """SpecAugment: spans of columns and of rows of each grid ``(B, T, F, D)`` become ``fill (F, D)``.

    Padding stays padding, and the config sees to it that some columns and rows stay.
    """
    rows = torch.full_like(columns, grids.shape[2])
    hidden = (
        spans(columns, grids.shape[1], how.time_masks, how.time_share)[:, :, None]
        | spans(rows, grids.shape[2], how.row_masks, how.row_share)[:, None, :]
    )
    real = torch.arange(grids.shape[1]) < columns[:, None]
    return torch.where((hidden & real[..., None])[..., None], fill, grids)


def spans(counts: torch.Tensor, size: int, masks: int, share: float) -> torch.Tensor:
    """Places ``(B, size)`` inside ``masks`` random spans of up to ``share`` of the first ``counts (B,)``."""
    place = torch.arange(size)
    hidden = torch.zeros(len(counts), size, dtype=torch.bool)
    for _ in range(masks):
        longest = (share * counts).floor()
        width = (torch.rand(len(counts)) * (longest + 1)).floor()
        start = (torch.rand(len(counts)) * (counts - width + 1)).floor()
        hidden |= (place >= start[:, None]) & (place < (start + width)[:, None])
    return hidden
