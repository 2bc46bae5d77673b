"""Batches for the tests of the Resp-MLLM."""

from __future__ import annotations

import torch
from generator_fixtures import CODEBOOK, DIM, ROWS

from generator.mllm import RespMLLM

Batch = dict[str, torch.Tensor]


def batch(model: RespMLLM, columns: list[int], seed: int = 0) -> Batch:
    """Clips of random units and features, with the labels in turn."""
    g = torch.Generator().manual_seed(seed)
    size, longest = len(columns), max(columns)
    texts = [model.text.ids(*pair) for pair in model.config.pairs]
    units = torch.randint(CODEBOOK, (size, longest, ROWS), generator=g)
    features = torch.randn(size, longest + 1, ROWS, DIM, generator=g)
    return {
        "text": torch.stack([texts[i % len(texts)] for i in range(size)]),
        "features": features,
        "feature_columns": torch.tensor(columns) + 1,
        "units": units,
        "columns": torch.tensor(columns),
    }


def single(values: Batch, i: int) -> Batch:
    """Clip i alone, unpadded."""
    alone = {name: value[i : i + 1] for name, value in values.items()}
    alone["features"] = alone["features"][:, : int(alone["feature_columns"])]
    alone["units"] = alone["units"][:, : int(alone["columns"])]
    return alone


def prompt(values: Batch) -> Batch:
    """What a batch asks for."""
    return {name: values[name] for name in ("text", "features", "feature_columns")}
