"""Event tags of clips: what sounds in every frame, as far as the annotation says. E is the number of tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from beats.augment import augment
from beats.config import BINS, PATCH, TAGS
from beats.encode import pad_waves
from beats.fbank import DEVIATION, MEAN, SHIFT, WINDOW, fbank
from resp229k.audio import RATE, Preprocess, prepare
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.errors import DataError
from training.progress import track
from training.seeds import derive

ABSENT, PRESENT, SOMEWHERE, UNKNOWN = 0, 1, 2, 3
WHOLE = 0.9  # share of a clip from which on an event says that it is there, not where
BATCH = 32
SILENT = -8.0  # log power of a filterbank bin above a recorder's bandwidth


@dataclass(frozen=True)
class TaggedClips:
    """Filterbank frames and tags of clips of one length, in memory.

    Attributes:
        clips: the clips, in order.
        corpus: per clip, the name of its corpus.
        frames: ``(N, L, 128)`` fp16, (frames - mean) / deviation as :mod:`beats.fbank` has them.
        tags: ``(N, L, E)`` uint8: absent, present, somewhere in the clip, or unknown.
    """

    clips: list[Clip]
    corpus: list[str]
    frames: np.ndarray
    tags: np.ndarray

    def __len__(self) -> int:
        return len(self.clips)


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


def load_tagged(corpora: Sequence[Corpus], seconds: float) -> TaggedClips:
    """Read clips of some corpora, short ones looped to ``seconds``.

    A kind of event that a corpus never names is unknown there, not absent: people cough in collections
    whose annotators marked crackles and wheezes only.

    Raises:
        AudioError: a recording cannot be used, named by path.
        DataError: there are no clips.
    """
    how = Preprocess(seconds=seconds, fit="loop")
    pairs = [(corpus, clip) for corpus in corpora for clip in corpus.clips]
    if not pairs:
        raise DataError("no clips to train the encoder on")
    length = 1 + (round(seconds * RATE) - WINDOW) // SHIFT
    frames = np.empty((len(pairs), length, BINS), dtype=np.float16)
    tags = np.empty((len(pairs), length, len(TAGS)), dtype=np.uint8)
    unnamed = {id(corpus): [i for i, tag in enumerate(TAGS) if tag not in named(corpus)] for corpus in corpora}
    for first in track(range(0, len(pairs), BATCH), "filterbank"):
        part = pairs[first : first + BATCH]
        waves = [corpus.audio(clip) for corpus, clip in part]
        found, _ = fbank(*pad_waves([prepare(wave, how) for wave in waves]))
        frames[first : first + len(part)] = ((found - MEAN) / DEVIATION).half().numpy()
        for row, ((corpus, clip), wave) in enumerate(zip(part, waves, strict=True), start=first):
            tags[row] = clip_tags(clip, wave.size, how)[:length]
            tags[row][:, unnamed[id(corpus)]] = UNKNOWN
    return TaggedClips(
        clips=[clip for _, clip in pairs],
        corpus=[corpus.folder.name for corpus, _ in pairs],
        frames=frames,
        tags=tags,
    )


def named(corpus: Corpus) -> set[str]:
    """Kinds of events that a corpus annotates, ``crackle`` for any kind of crackle."""
    kinds: set[str] = {event.kind for clip in corpus.clips for event in clip.events}
    return kinds | {"crackle" for kind in kinds if kind.endswith("crackle")}


def held_out(clips: Sequence[Clip], share: float, seed: int) -> np.ndarray:
    """Which clips are kept for validation ``(N,)`` bool: whole sources, or whole subjects.

    Clips of split ``select``, where there are any, and no others. Else a source that holds less than a
    tenth of the clips stays together, so that its style is unseen; a larger one is cut by subject.
    """
    given = np.array([clip.split == "select" for clip in clips])
    if given.any():
        return given
    sizes: dict[str, int] = {}
    for clip in clips:
        sizes[clip.source] = sizes.get(clip.source, 0) + 1
    groups = [c.source if sizes[c.source] < 0.1 * len(clips) else c.subject_id for c in clips]
    chosen = {group: derive(seed, "held out", group) < share * 2**32 for group in set(groups)}
    return np.array([chosen[group] for group in groups])


class TagDataset:
    """Rows of tagged clips; ``train`` rows are cropped and augmented by :class:`TagCollate`."""

    def __init__(self, data: TaggedClips, rows: np.ndarray, *, train: bool):
        self.data, self.rows, self.train = data, rows, train

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, bool]:
        row = self.rows[index]
        return self.data.frames[row], self.data.tags[row], self.train


class TagCollate:
    """Joins rows; training batches get one random length, crops of it, and another device each."""

    def __init__(self, shortest: int):
        self.shortest = shortest  # columns

    def __call__(self, rows: list[tuple[np.ndarray, np.ndarray, bool]]) -> dict[str, Tensor]:
        """Keyword arguments of the tagger's forward."""
        frames = torch.from_numpy(np.stack([row[0] for row in rows])).float() * DEVIATION + MEAN
        tags = torch.from_numpy(np.stack([row[1] for row in rows]))
        columns = frames.shape[1] // PATCH
        if rows[0][2]:
            columns = int(torch.randint(min(self.shortest, columns), columns + 1, ()))
            starts = torch.randint(0, frames.shape[1] - PATCH * columns + 1, (len(rows),)).tolist()
            frames = torch.stack([x[s : s + PATCH * columns] for x, s in zip(frames, starts, strict=True)])
            tags = torch.stack([x[s : s + PATCH * columns] for x, s in zip(tags, starts, strict=True)])
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
