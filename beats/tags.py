"""Event tags of clips: what sounds in every frame, as far as the annotation says. E is the number of tags."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from beats.augment import augment
from beats.config import BINS, PATCH, TAGS
from beats.fbank import SHIFT
from beats.frames import SILENT, FrameClips, Row, joined, raw_frames
from resp229k.audio import RATE, Preprocess
from resp229k.clip import Clip
from resp229k.corpus import Corpus

ABSENT, PRESENT, SOMEWHERE, UNKNOWN = 0, 1, 2, 3
WHOLE = 0.9  # share of a clip from which on an event says that it is there, not where


def clip_tags(clip: Clip, samples: int, how: Preprocess) -> np.ndarray:
    """Tags per 10 ms ``(ceil(samples / 160), E)`` of a clip as :func:`prepare` gives it."""
    marks = np.zeros((-(-samples // SHIFT), len(TAGS)), dtype=np.uint8)
    length = samples / RATE
    for event in clip.events:
        first = int(event.start * RATE) // SHIFT
        last = max(first + 1, -(-int(event.end * RATE) // SHIFT))
        value = SOMEWHERE if event.end - event.start >= WHOLE * length else PRESENT
        kinds = {event.kind, "crackle"} if event.kind.endswith("crackle") else {event.kind}
        for kind in kinds:
            part = marks[first:last, TAGS.index(kind)]  # type: ignore[arg-type]
            part[part != PRESENT] = value
        if event.kind == "crackle":  # fine or coarse: not said
            for kind in ("fine crackle", "coarse crackle"):
                part = marks[first:last, TAGS.index(kind)]  # type: ignore[arg-type]
                part[part == ABSENT] = UNKNOWN
    size = round(how.seconds * RATE) // SHIFT
    if len(marks) > size:
        first = (len(marks) - size) // 2
        return marks[first : first + size]
    return np.tile(marks, (-(-size // len(marks)), 1))[:size]


class TaggedClips(FrameClips):
    """Clips with their frames and what sounds in them.

    A kind of event that a corpus never names is unknown there, not absent: people cough in collections
    whose annotators marked crackles and wheezes only.

    Attributes:
        tags: ``(N, L, E)`` uint8: absent, present, somewhere in the clip, or unknown.

    Args and errors as :class:`FrameClips`.
    """

    def __init__(self, corpora: Sequence[Corpus], seconds: float, memory_gb: float = 8.0):
        super().__init__(corpora, seconds, memory_gb)
        self.tags = np.empty((len(self), self.length, len(TAGS)), dtype=np.uint8)
        row = 0
        for corpus in corpora:
            unnamed = [i for i, tag in enumerate(TAGS) if tag not in named(corpus)]
            for clip in corpus.clips:
                tags = clip_tags(clip, round(clip.seconds * RATE), self.how)
                self.tags[row] = tags[: self.length]
                self.tags[row][:, unnamed] = UNKNOWN
                row += 1


def named(corpus: Corpus) -> set[str]:
    """Kinds of events that a corpus annotates, ``crackle`` for any kind of crackle."""
    kinds: set[str] = {event.kind for clip in corpus.clips for event in clip.events}
    return kinds | {"crackle" for kind in kinds if kind.endswith("crackle")}


class TagCollate:
    """Joins rows; training batches get one random length, crops of it, and another device for each clip."""

    def __init__(self, shortest: int, change: bool):
        self.shortest = shortest  # columns
        self.change = change  # the device

    def __call__(self, rows: list[Row]) -> dict[str, Tensor]:
        """Keyword arguments of the tagger's forward."""
        frames = raw_frames([row[0] for row in rows])
        tags = joined(rows)
        columns = frames.shape[1] // PATCH
        if rows[0][2]:
            columns = int(torch.randint(min(self.shortest, columns), columns + 1, ()))
            starts = torch.randint(0, frames.shape[1] - PATCH * columns + 1, (len(rows),)).tolist()
            frames = torch.stack([x[s : s + PATCH * columns] for x, s in zip(frames, starts, strict=True)])
            tags = torch.stack([x[s : s + PATCH * columns] for x, s in zip(tags, starts, strict=True)])
            if self.change:
                frames = augment(frames, SILENT)
        size = PATCH * columns
        return {
            "frames": frames[:, :size].reshape(len(rows), size, BINS),
            "counts": torch.full((len(rows),), size),
            "column_tags": column_targets(tags[:, :size]),
            "clip_tags": clip_targets(tags[:, :size]),
        }


def column_targets(tags: Tensor) -> Tensor:
    """Targets per column ``(B, T, E)`` of tags ``(B, 16 T, E)``: 1, 0, or NaN where it is not said."""
    columns = tags.unflatten(1, (-1, PATCH))
    known = torch.where((columns == ABSENT).all(2), 0.0, torch.nan)
    return torch.where((columns == PRESENT).any(2), 1.0, known)


def clip_targets(tags: Tensor) -> Tensor:
    """Targets per clip ``(B, E)`` of tags ``(B, L, E)``: 1, 0, or NaN where it is not said."""
    known = torch.where((tags == UNKNOWN).any(1), torch.nan, 0.0)
    return torch.where(((tags == PRESENT) | (tags == SOMEWHERE)).any(1), 1.0, known)
