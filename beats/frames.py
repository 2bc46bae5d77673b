"""Clips of corpora as filterbank frames of one length, in memory or read again each time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from beats.config import BINS
from beats.encode import pad_waves
from beats.encoder import BeatsEncoder
from beats.fbank import DEVIATION, MEAN, SHIFT, WINDOW, fbank
from resp229k.audio import RATE, Preprocess, prepare
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.errors import DataError
from training.progress import track
from training.seeds import derive

BATCH = 32
SILENT = -8.0  # log power of a filterbank bin above a recorder's bandwidth


def windows(corpus: Corpus, seconds: float) -> Corpus:
    """Every whole window of ``seconds`` s of every clip, without labels; what is shorter is left out.

    For masked prediction: in a looped clip a hidden sound is heard again one loop later.
    """
    found = []
    for clip in corpus.clips:
        for number in range(int(clip.seconds / seconds + 1e-6)):
            start = clip.start + number * seconds
            found.append(
                clip.model_copy(
                    update={
                        "clip_id": f"{clip.clip_id}+{number}",
                        "start": start,
                        "end": min(start + seconds, clip.end),
                        "labels": {},
                        "multi_labels": {},
                        "events": [],
                    }
                )
            )
    return Corpus(corpus.folder, found)


class FrameClips:
    """Frames of every clip, short clips looped.

    Attributes:
        clips: in the order of the corpora.
        corpus: per clip, the name of its corpus.
        length: frames of every clip.

    Args:
        corpora: whose clips.
        seconds: length that clips are looped or cut to, s.
        memory_gb: frames are read once and kept up to this size, above it whenever they are asked for;
            each process keeps its own.

    Raises:
        AudioError: a recording cannot be used, named by path.
        DataError: there are no clips.
    """

    def __init__(self, corpora: Sequence[Corpus], seconds: float, memory_gb: float = 8.0):
        self._pairs = [(corpus, clip) for corpus in corpora for clip in corpus.clips]
        if not self._pairs:
            raise DataError("no clips to train the encoder on")
        self.clips: list[Clip] = [clip for _, clip in self._pairs]
        self.corpus = [corpus.folder.name for corpus, _ in self._pairs]
        self.how = Preprocess(seconds=seconds, fit="loop")
        self.length = 1 + (round(seconds * RATE) - WINDOW) // SHIFT
        self._kept: np.ndarray | None = None
        if 2 * len(self) * self.length * BINS <= memory_gb * 1e9:
            kept = np.empty((len(self), self.length, BINS), dtype=np.float16)
            for first in track(range(0, len(self), BATCH), "filterbank"):
                rows = range(first, min(first + BATCH, len(self)))
                kept[first : rows.stop] = self._read(rows)
            self._kept = kept

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, row: int) -> np.ndarray:
        """``(L, 128)`` fp16, (frames - mean) / deviation as :mod:`beats.fbank` has them."""
        return self._read([row])[0] if self._kept is None else self._kept[row]

    def _read(self, rows: Sequence[int]) -> np.ndarray:
        waves = []
        for row in rows:
            corpus, clip = self._pairs[row]
            waves.append(prepare(corpus.audio(clip), self.how))
        frames, _ = fbank(*pad_waves(waves))
        return ((frames - MEAN) / DEVIATION).half().numpy()


Row = tuple[np.ndarray, np.ndarray | None, bool]


class FrameRows:
    """Some clips as a training set: frames ``(L, 128)``, their targets if any, and whether it is for training.

    Rows for training are cropped and changed when they are joined to a batch.
    """

    def __init__(self, data: FrameClips, rows: np.ndarray, targets: np.ndarray | None = None, *, train: bool):
        self.data, self.rows, self.targets, self.train = data, rows, targets, train

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        row = self.rows[index]
        return self.data[row], None if self.targets is None else self.targets[row], self.train


def raw_frames(rows: Sequence[np.ndarray]) -> Tensor:
    """Filterbank frames ``(B, L, 128)`` float32, not normalised, of rows of :class:`FrameClips`."""
    return torch.from_numpy(np.stack(rows)).float() * DEVIATION + MEAN


def joined(rows: Sequence[Row]) -> Tensor:
    """The targets of some rows, stacked; every row has some."""
    return torch.from_numpy(np.stack([row[1] for row in rows if row[1] is not None]))


@torch.inference_mode()
def features_of(encoder: BeatsEncoder, data: FrameClips, rows: Sequence[int]) -> np.ndarray:
    """Features ``(N, T, F, D)`` fp16 of some clips."""
    device = next(encoder.parameters()).device
    found = []
    for first in track(range(0, len(rows), BATCH), "encode"):
        frames = raw_frames([data[row] for row in rows[first : first + BATCH]]).to(device)
        counts = torch.full((len(frames),), data.length, device=device)
        found.append(encoder.encode_frames(frames, counts).features.half().cpu().numpy())
    return np.concatenate(found)


def held_out(clips: Sequence[Clip], share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for validation, apart by source or by subject.

    Clips of split ``select`` are for validation, where there are any, and no others. Else a source that holds
    less than a tenth of the clips stays together, so that its style is unseen; a larger one is cut by subject.

    Raises:
        DataError: one of the two is empty.
    """
    kept = np.array([clip.split == "select" for clip in clips])
    if not kept.any():
        sizes: dict[str, int] = {}
        for clip in clips:
            sizes[clip.source] = sizes.get(clip.source, 0) + 1
        groups = [c.source if sizes[c.source] < 0.1 * len(clips) else c.subject_id for c in clips]
        chosen = {group: derive(seed, "held out", group) < share * 2**32 for group in set(groups)}
        kept = np.array([chosen[group] for group in groups])
    if kept.all() or not kept.any():
        raise DataError(
            f"{len(clips)} clips leave {(~kept).sum()} for training and {kept.sum()} for validation",
            cure="give more sources or subjects, or change held_out",
        )
    return np.flatnonzero(~kept), np.flatnonzero(kept)
