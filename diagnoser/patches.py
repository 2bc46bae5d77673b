"""Filterbank frames on the encoder's grid: what a diagnoser hears whose encoder is trained too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from beats.config import PATCH, ROWS
from beats.encode import check_length
from beats.fbank import fbank
from resp229k.audio import Preprocess, prepare
from resp229k.corpus import Corpus


def to_patches(frames: torch.Tensor) -> torch.Tensor:
    """Frames ``(16 T, 128)`` to patches ``(T, 8, 256)``, each 16 frames x 16 bins, in the grid's order."""
    return frames.unflatten(1, (ROWS, PATCH)).unflatten(0, (-1, PATCH)).transpose(1, 2).flatten(2)


def to_frames(patches: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches ``(B, T, 8, 256)`` and columns ``(B,)`` to frames ``(B, 16 T, 128)`` and their counts."""
    frames = patches.unflatten(3, (PATCH, PATCH)).transpose(2, 3).flatten(3).flatten(1, 2)
    return frames, columns * PATCH


class PatchStore:
    """Reads clips from their audio each time; stands in for a feature store.

    Args:
        corpora: clips and audio.
        preprocess: how a clip becomes the encoder's input.
    """

    def __init__(self, corpora: Sequence[Corpus], preprocess: Preprocess):
        self.preprocess = preprocess
        self.places = {clip.clip_id: (corpus, clip) for corpus in corpora for clip in corpus.clips}

    def features(self, clip_id: str) -> np.ndarray:
        """Patches ``(T, 8, 256)`` float32 of one clip.

        Raises:
            AudioError: the recording cannot be used.
        """
        corpus, clip = self.places[clip_id]
        wave = prepare(corpus.audio(clip), self.preprocess)
        check_length(wave, f"clip {clip_id}", corpus.folder / clip.path)
        frames, counts = fbank(torch.from_numpy(wave)[None], torch.tensor([wave.size]))
        return to_patches(frames[0, : int(counts[0]) // PATCH * PATCH]).numpy()
