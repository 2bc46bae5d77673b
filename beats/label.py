"""Units of many clips: k-means fitted to features, units as targets, and how codebooks are used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from beats.augment import augment
from beats.config import PATCH, UnitsConfig
from beats.encoder import BeatsEncoder
from beats.frames import BATCH, SILENT, FrameClips, Row, features_of, joined, raw_frames
from beats.random_units import RandomUnits
from beats.tokenizer import BeatsTokenizer
from beats.units import ResidualUnits, UnitTokenizer, fit_residual_units, fit_units, unit_usage
from training.model import Provenance
from training.seeds import derive


class Sample(NamedTuple):
    """Features ``(N, T, F, D)`` that units are fitted to, and of whom they are."""

    features: np.ndarray
    provenance: Provenance


def sample_features(encoder: BeatsEncoder, data: FrameClips, clips: int, seed: int) -> Sample:
    """Features of at most ``clips`` random clips; whom the encoder has heard, counts as heard."""
    rng = np.random.default_rng(derive(seed, "units"))
    rows = sorted(rng.permutation(len(data))[:clips].tolist())
    heard = {data.clips[row].subject_id for row in rows} | set(encoder.provenance.subjects)
    notes = {"encoder": encoder.provenance.notes} if encoder.provenance.notes else {}
    provenance = Provenance.of(heard, command="train units", seed=seed, notes=notes)
    return Sample(features_of(encoder, data, rows), provenance)


def fit_kmeans(sample: Sample, codebook: int, seed: int) -> tuple[UnitTokenizer, dict[str, Any]]:
    """Fit units to features; also their usage there."""
    config = UnitsConfig(codebook=codebook, dim=sample.features.shape[-1])
    tokenizer = fit_units(sample.features, config, seed=seed)
    tokenizer.provenance = sample.provenance
    found = [tokenizer.units(torch.from_numpy(clip.astype(np.float32))).numpy() for clip in sample.features]
    return tokenizer, usage(found, codebook)


def fit_residual(sample: Sample, codebook: int, depth: int, seed: int) -> ResidualUnits:
    """As :func:`fit_kmeans`, with ``depth`` codebooks one after the other."""
    config = UnitsConfig(codebook=codebook, dim=sample.features.shape[-1])
    tokenizer = fit_residual_units(sample.features, config, depth=depth, seed=seed)
    tokenizer.provenance = sample.provenance
    return tokenizer


@torch.inference_mode()
def label_units(tokenizer: BeatsTokenizer | RandomUnits, data: FrameClips) -> np.ndarray:
    """Units ``(N, T, 8)`` int32 of all clips at full length: computed once, not in every step."""
    found = []
    # Before the Trainer gives each process its device.
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device(f"cuda:{rank}" if torch.cuda.is_available() else "cpu")
    tokenizer = tokenizer.to(device).eval()
    for first in range(0, len(data), BATCH):
        frames = raw_frames([data[row] for row in range(first, min(first + BATCH, len(data)))]).to(device)
        counts = torch.full((len(frames),), data.length, device=device)
        if isinstance(tokenizer, RandomUnits):
            units = tokenizer.units_of_frames(frames, counts)
        else:
            units = tokenizer.quantizer.units(tokenizer.encoder.encode_frames(frames, counts).features)
        found.append(units.to(torch.int32).cpu().numpy())
    tokenizer.to("cpu")
    return np.concatenate(found)


class UnitCollate:
    """Joins rows; in training to one random length, each clip from a random column on, by another device.

    Units stay those of the clip as it is: they are what the encoder is to hear through any recorder.
    """

    def __init__(self, shortest: int, change: bool):
        self.shortest = shortest  # columns
        self.change = change  # the device

    def __call__(self, rows: list[Row]) -> dict[str, Tensor]:
        """Keyword arguments of forward: frames, counts, and units where rows have them."""
        columns = len(rows[0][0]) // PATCH
        starts = [0] * len(rows)
        if rows[0][2]:
            whole = columns
            columns = int(torch.randint(min(self.shortest, whole), whole + 1, ()))
            starts = torch.randint(0, whole - columns + 1, (len(rows),)).tolist()
        size = PATCH * columns
        parts = [row[0][PATCH * s : PATCH * s + size] for row, s in zip(rows, starts, strict=True)]
        frames = raw_frames(parts)
        if rows[0][2] and self.change:
            frames = augment(frames, SILENT)
        batch = {"frames": frames, "counts": torch.full((len(rows),), size)}
        if rows[0][1] is not None:
            units = [u[s : s + columns] for u, s in zip(joined(rows), starts, strict=True)]
            batch["units"] = torch.stack(units).long()
        return batch


def usage(units: Iterable[np.ndarray], codebook: int) -> dict[str, Any]:
    """Perplexity and dead codes, as reports have them."""
    found = unit_usage(units, codebook)
    return {"codebook": codebook, "perplexity": found.perplexity, "dead": found.dead}
