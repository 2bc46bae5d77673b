"""Random streams addressed by name, so that no result depends on order or on the number of workers."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(*key: str | int | float) -> np.random.Generator:
    """A generator that depends on the whole ``key`` and on nothing else."""
    raw = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(raw[:16], "big"))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A draw whose logarithm is uniform on ``low``..``high``."""
    return float(low * (high / low) ** rng.random())


def between(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """A uniform draw on ``span``."""
    return float(rng.uniform(*span))
