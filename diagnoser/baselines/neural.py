"""Baselines that are networks, trained with the diagnoser's own steps, batches and stopping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from diagnoser.baselines.choose import Answer, Fitted, calibrated, choose, criterion
from diagnoser.baselines.data import SPLITS, PartData
from diagnoser.baselines.networks import LogMelCnn, Objective, PooledMlp, SmallAst
from diagnoser.baselines.simple import pooled
from diagnoser.config import PAD, DiagnoserTrainConfig
from diagnoser.losses import log_shares, loss_weights
from diagnoser.text import Words
from training.fit import fit
from training.seeds import derive, seed_all

SHARES = (0.5, 0.25, 0.75)  # of the listener in the vote; the first of equals stays
BATCH = 64
Sample = dict[str, Any]
Join = Callable[[list[Any]], dict[str, Any]]


class Arrays:
    """Rows of some arrays as samples of a network.

    Args:
        arrays: argument of the forward → values of all clips, row by row.
        rows: which rows, in order.
        labels: class indices, and weights of the loss, one per row.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], rows: np.ndarray, **labels: np.ndarray):
        self.arrays, self.rows, self.labels = arrays, rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        return {name: values[row] for name, values in self.arrays.items()} | {
            name: values[index] for name, values in self.labels.items()
        }


def collate(samples: list[Sample]) -> dict[str, torch.Tensor]:
    """Stack samples of one shape to the forward's arguments, numbers in float32."""
    batch = {}
    for name in samples[0]:
        values = torch.from_numpy(np.stack([sample[name] for sample in samples]))
        batch[name] = values.float() if values.is_floating_point() else values
    return batch


def train_network(
    model: nn.Module,
    splits: Mapping[str, Any],
    data: PartData,
    config: DiagnoserTrainConfig,
    name: str,
    join: Join = collate,
    train_join: Join | None = None,
) -> tuple[Answer, dict[str, Any]]:
    """Train with the config's budget: steps, batches, balance, stopping on ``select``.

    Args:
        model: a network.
        splits: a dataset for each of train (with labels), select and test (without).
        data: whose labels.
        config: one training's.
        name: of the row.
        join: collates samples.
        train_join: collates those of training, if it is another.

    Returns:
        what it answers, and notes.
    """
    result = fit(
        model,
        splits["train"],
        collate=train_join or join,
        config=config.fit,
        out=data.scratch(name, config.seed),
        evaluate=lambda network: criterion(data.labels["select"], logits_of(network, splits["select"], join)),
        weights=(1.0 / np.maximum(counts(data), 1))[data.labels["train"]] if config.balanced else None,
        description=f"train {name}",
    )
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    notes = {"parameters": trainable, "steps": result.steps, "best_step": result.best_step}
    return lambda split: logits_of(model, splits[split], join), notes


def logits_of(model: nn.Module, dataset: Any, join: Join) -> np.ndarray:
    """Logits ``(N, C)`` float64, in the dataset's order."""
    device = next(model.parameters()).device
    found = []
    with torch.no_grad():
        for first in range(0, len(dataset), BATCH):
            batch = join([dataset[i] for i in range(first, min(first + BATCH, len(dataset)))])
            logits = model(**{name: value.to(device) for name, value in batch.items()}).logits
            found.append(logits.double().cpu().numpy())
    return np.concatenate(found)


def counts(data: PartData) -> np.ndarray:
    """Training clips of each class ``(C,)``."""
    return np.bincount(data.labels["train"], minlength=len(data.classes))


def weights_of(data: PartData, config: DiagnoserTrainConfig) -> np.ndarray | None:
    """Weights of the training clips' losses ``(N,)``, as the diagnoser has them."""
    return loss_weights(config, data.clips["train"], data.labels["train"], counts(data))


def shift_of(data: PartData, config: DiagnoserTrainConfig) -> torch.Tensor | None:
    """What the loss adds to the logits ``(C,)``, as the diagnoser's does."""
    return config.logit_adjustment * log_shares(counts(data)) if config.logit_adjustment else None


def budget(data: PartData, seed: int) -> DiagnoserTrainConfig:
    """The diagnoser's config for a network that has none of its layers: one rate throughout."""
    config = data.seeded(seed)
    return config.model_copy(update={"fit": config.fit.model_copy(update={"layer_decay": 1.0, "rates": {}})})


def _train_arrays(
    make: Callable[[], nn.Module], arrays: Mapping[str, np.ndarray], data: PartData, seed: int, name: str
) -> Fitted:
    config = budget(data, seed)
    splits = {split: Arrays(arrays, data.rows(split)) for split in SPLITS}
    splits["train"].labels = {"labels": data.labels["train"]}
    if (weights := weights_of(data, config)) is not None:
        splits["train"].labels["weights"] = weights
    seed_all(derive(seed, "weights"))
    learner = Objective(make(), shift_of(data, config))
    answer, notes = train_network(learner, splits, data, config, name)
    return calibrated(data, answer, notes)


def cnn(data: PartData, seed: int) -> Fitted:
    """A log-mel CNN from scratch."""
    classes, sizes = len(data.classes), data.config.model
    return _train_arrays(lambda: LogMelCnn(classes, sizes), {"frames": data.frames}, data, seed, "cnn")


def ast(data: PartData, seed: int) -> Fitted:
    """A small Audio Spectrogram Transformer from scratch."""
    classes, sizes, length = len(data.classes), data.config.model, data.frames.shape[1]
    return _train_arrays(lambda: SmallAst(classes, sizes, length), {"frames": data.frames}, data, seed, "ast")


def pooled_mlp(data: PartData, seed: int) -> Fitted:
    """Pooled BEATs features and an MLP."""
    return _mlp(data, seed, reads=False)


def late_concat(data: PartData, seed: int) -> Fitted:
    """Pooled BEATs features beside the mean embedding of the narrative's words, and an MLP."""
    return _mlp(data, seed, reads=True)


def _mlp(data: PartData, seed: int, *, reads: bool) -> Fitted:
    arrays = {"pooled": _by_row(data, {split: pooled(data, split) for split in SPLITS})}
    sizes = data.config.model
    if reads:
        texts = {split: data.narratives(split, seed) for split in SPLITS}
        words = Words.train(texts["train"], sizes.vocabulary)
        arrays["words"] = _by_row(
            data, {split: _padded(words, texts[split], sizes.text_tokens) for split in SPLITS}
        )
    rows = arrays["pooled"][data.rows("train")]
    mean, scale = torch.from_numpy(rows.mean(0)), torch.from_numpy(rows.std(0))
    name = "late-concat" if reads else "pooled-mlp"
    return _train_arrays(
        lambda: PooledMlp(len(data.classes), sizes, mean, scale, reads=reads), arrays, data, seed, name
    )


def _padded(words: Words, texts: list[str], longest: int) -> np.ndarray:
    found = np.full((len(texts), longest), PAD, dtype=np.int64)
    for row, tokens in zip(found, words.encode_all(texts, longest), strict=True):
        row[: len(tokens)] = tokens
    return found


def _by_row(data: PartData, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Values of the splits at the rows of their clips; rows of other clips are 0."""
    first = values["train"]
    found = np.zeros((data.size, *first.shape[1:]), dtype=first.dtype)
    for split, rows in values.items():
        found[data.rows(split)] = rows
    return found


def late_vote(data: PartData, seed: int, listener: Fitted, reader: Fitted) -> Fitted:
    """The calibrated log-probabilities of two rows, averaged with the share that is best on ``select``."""
    logs = {
        split: [
            np.log(np.maximum(getattr(one, split).probs.astype(np.float64), 1e-9))
            for one in (listener, reader)
        ]
        for split in ("select", "test")
    }

    def vote(share: float) -> Answer:
        return lambda split: share * logs[split][0] + (1 - share) * logs[split][1]

    share, answer = choose(data, SHARES, vote)
    return calibrated(data, answer, {"share of audio": share})
