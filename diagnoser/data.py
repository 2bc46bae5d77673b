"""Clips → batches of the diagnoser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from diagnoser.config import PAD
from diagnoser.text import Words
from resp229k.clip import Clip
from resp229k.narrative import narrate

Sample = dict[str, Any]


def narratives(clips: Sequence[Clip], task: str, seed: int) -> list[str]:
    """What the diagnoser reads of each clip: never the device, the source, or what defines the label."""
    return [narrate(clip, task, seed=seed, equipment=False) for clip in clips]


def tokens(
    clips: Sequence[Clip], words: Words | None, longest: int, *, task: str, seed: int
) -> list[list[int]]:
    """Token ids of each clip's narrative; empty without a tokenizer."""
    if words is None:
        return [[] for _ in clips]
    return words.encode_all(narratives(clips, task, seed), longest)


class ClipDataset:
    """Samples of clips, features from a store.

    Args:
        clip_ids: ``N`` ids.
        store: gives ``features(clip_id)`` ``(T, F, D)``.
        token_ids: narrative of each clip.
        labels: class indices ``(N,)``.
        weights: of each clip's loss ``(N,)``.
    """

    def __init__(
        self,
        clip_ids: Sequence[str],
        store: Any,
        token_ids: Sequence[list[int]],
        labels: np.ndarray | None = None,
        weights: np.ndarray | None = None,
    ):
        self.clip_ids, self.store, self.token_ids = list(clip_ids), store, list(token_ids)
        self.labels, self.weights = labels, weights

    def alone(self, kept: Literal["audio", "text"]) -> ClipDataset:
        """The same clips with the other modality hidden, for calibration."""
        silent, mute = kept == "text", kept == "audio"
        store = Silenced(self.store) if silent else self.store
        read = [[] for _ in self.token_ids] if mute else self.token_ids
        return ClipDataset(self.clip_ids, store, read, self.labels, self.weights)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __getitem__(self, index: int) -> Sample:
        sample: Sample = {
            "tokens": self.token_ids[index],
            "features": self.store.features(self.clip_ids[index]),
        }
        if self.labels is not None:
            sample["label"] = int(self.labels[index])
        if self.weights is not None:
            sample["weight"] = float(self.weights[index])
        return sample


class Silenced:
    """A store whose features have no columns."""

    def __init__(self, store: Any):
        self.store = store

    def features(self, clip_id: str) -> np.ndarray:
        """``(0, F, D)``."""
        return np.asarray(self.store.features(clip_id))[:0]


def collate(samples: list[Sample]) -> dict[str, torch.Tensor]:
    """Pad samples to the forward's arguments; a grid ``(0, F, D)`` is a sample without audio."""
    columns = torch.tensor([len(sample["features"]) for sample in samples])
    rows, dim = samples[0]["features"].shape[1:]
    features = torch.zeros(len(samples), int(columns.max()), rows, dim)
    longest = max(len(sample["tokens"]) for sample in samples)
    ids = torch.full((len(samples), longest), PAD)
    mask = torch.zeros(len(samples), longest, dtype=torch.bool)
    for row, sample in enumerate(samples):
        grid, words = sample["features"], sample["tokens"]
        features[row, : len(grid)] = torch.from_numpy(np.asarray(grid, dtype=np.float32))
        ids[row, : len(words)] = torch.tensor(words, dtype=torch.long)
        mask[row, : len(words)] = True
    batch = {"text_ids": ids, "text_mask": mask, "features": features, "columns": columns}
    if "label" in samples[0]:
        batch["labels"] = torch.tensor([sample["label"] for sample in samples])
    if "weight" in samples[0]:
        batch["weights"] = torch.tensor([sample["weight"] for sample in samples])
    return batch


def feature_statistics(dataset: ClipDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation ``(F, D)`` of the features over all columns of all clips."""
    count = 0
    total: Any = 0.0
    square: Any = 0.0
    for clip_id in dict.fromkeys(dataset.clip_ids):
        grid = np.asarray(dataset.store.features(clip_id), dtype=np.float64)
        count += len(grid)
        total = total + grid.sum(axis=0)
        square = square + (grid**2).sum(axis=0)
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()
