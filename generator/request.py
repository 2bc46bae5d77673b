"""What is asked of a generator and what it gives back. Torch-free: every backend speaks these two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resp229k.audio import load_audio


@dataclass(frozen=True)
class Request:
    """One clip to make.

    Attributes:
        task: whose label is wanted.
        label: the content.
        reference: a recording (path, or 16 kHz mono samples ``(N,)``) that lends its style.
        reference_id: the reference's clip id, or its file name.
        subject_id: the reference's subject; the synthetic clip counts as that subject's.
        seconds: exact duration.
        events: what should be heard, and how often in 10 s, e.g. "12 crackle, 2 wheeze"; none: left open.
        units: ``(T, F)`` that are decoded instead of what the Resp-MLLM would write; none: it writes.
    """

    task: str
    label: str
    reference: Path | np.ndarray
    reference_id: str
    subject_id: str
    seconds: float = 4.0
    events: str | None = None
    units: np.ndarray | None = None

    def wave(self) -> np.ndarray:
        """The reference's samples, 16 kHz mono.

        Raises:
            AudioError: the file is missing, broken, empty or silent.
        """
        return load_audio(self.reference) if isinstance(self.reference, Path) else self.reference


@dataclass(frozen=True)
class Generated:
    """One synthetic clip.

    Attributes:
        wave: 16 kHz mono float32 ``(N,)``.
        units: ``(T, F)`` units it was decoded from; none if the backend has no units.
        request: what was asked.
        seed: of this clip alone; the same request with the same seed and weights gives it again.
    """

    wave: np.ndarray
    units: np.ndarray | None
    request: Request
    seed: int
