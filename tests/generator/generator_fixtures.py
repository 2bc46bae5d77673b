"""Constants and the fake feature store of the generator's tests."""

from __future__ import annotations

import numpy as np

from beats.cache import StoreWeights
from resp229k.audio import RATE
from resp229k.clip import Clip

CODEBOOK, ROWS, DIM = 16, 8, 12
LABELS = {"disease16": ("Control", "Pulmonary Fibrosis"), "icbhi4": ("normal", "wheeze")}


class FakeStore:
    """Features and units that depend on the clip id; units of "abnormal" clips repeat."""

    weights = StoreWeights(encoder="e" * 64, tokenizer="t" * 64)

    def __init__(self, clips: list[Clip]):
        self.clips = {clip.clip_id: clip for clip in clips}

    def columns(self, clip_id: str) -> int:
        return round(self.clips[clip_id].seconds * RATE) // 2560

    def features(self, clip_id: str) -> np.ndarray:
        rng = np.random.default_rng(len(clip_id) + sum(map(ord, clip_id)))
        return rng.normal(size=(self.columns(clip_id), ROWS, DIM)).astype(np.float16)

    def units(self, clip_id: str) -> np.ndarray:
        rng = np.random.default_rng(sum(map(ord, clip_id)))
        rows = np.arange(ROWS) + rng.integers(2, size=(self.columns(clip_id), 1))
        shift = 0 if self.clips[clip_id].labels["icbhi4"] == "normal" else 6
        return (rows + shift) % CODEBOOK
