"""Waves → features, in batches of similar length; shared by the cache and by live prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from beats.config import PATCH
from beats.encoder import BeatsEncoder
from beats.fbank import seconds_of, shortest
from resp229k.audio import Preprocess, prepare
from training.errors import AudioError

SHORTEST = shortest(PATCH)  # samples of one column


def pad_waves(waves: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Join waves ``(N,)`` to a zero-padded batch ``(B, N)`` and its lengths ``(B,)``."""
    lengths = torch.tensor([wave.size for wave in waves])
    batch = torch.zeros(len(waves), int(lengths.max()))
    for row, wave in zip(batch, waves, strict=True):
        row[: wave.size] = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
    return batch, lengths


@torch.inference_mode()
def encode_batch(encoder: BeatsEncoder, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Features ``(T, F, D)`` fp16 of prepared waves, encoded as one batch."""
    device = next(encoder.parameters()).device
    batch, lengths = pad_waves(waves)
    features, columns = encoder.encode(batch.to(device), lengths.to(device))
    half = features.half().cpu().numpy()
    return [clip[:count].copy() for clip, count in zip(half, columns.tolist(), strict=True)]


def check_length(wave: np.ndarray, name: str, path: Path | None = None) -> None:
    """Refuse a prepared wave that does not fill one column.

    Raises:
        AudioError: with the path and the cure.
    """
    if wave.size < SHORTEST:
        raise AudioError(
            f"{name} has {wave.size} samples, fewer than the {SHORTEST} of one column",
            path=path,
            cure=f"use clips of {seconds_of(PATCH)} s or more, or preprocess.fit: loop",
        )


def encode_waves(
    encoder: BeatsEncoder, waves: Sequence[np.ndarray], preprocess: Preprocess, batch: int = 32
) -> list[np.ndarray]:
    """Features of waves, in their order.

    Args:
        encoder: in eval mode.
        waves: 16 kHz mono, ``(N,)`` each.
        preprocess: applied to each wave first.
        batch: waves encoded at a time; waves of similar length go together.

    Returns:
        per wave ``(T, F, D)`` fp16 with its real T, as the cache holds them.

    Raises:
        AudioError: a prepared wave is shorter than one column.
    """
    ready = [prepare(wave, preprocess) for wave in waves]
    for index, wave in enumerate(ready):
        check_length(wave, f"wave {index}")
    order = sorted(range(len(ready)), key=lambda index: ready[index].size)
    found: dict[int, np.ndarray] = {}
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        found.update(zip(rows, encode_batch(encoder, [ready[row] for row in rows]), strict=True))
    return [found[index] for index in range(len(ready))]
