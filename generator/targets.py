"""What the generator learns from: target clips under their labels, and who may lend them a style."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np

from beats.cache import StoreWeights
from generator.config import DrawConfig
from resp229k.clip import Clip, EventKind
from resp229k.corpus import Corpus
from resp229k.simulate.config import is_simulated
from resp229k.tasks import get_task
from training.errors import DataError


class Store(Protocol):
    """Cached features and units, by clip id."""

    @property
    def weights(self) -> StoreWeights:
        """Digests of the encoder and the tokenizer that made them."""
        ...

    def features(self, clip_id: str) -> np.ndarray:
        """``(T, F, D)``."""
        ...

    def units(self, clip_id: str) -> np.ndarray:
        """``(T, F)``."""
        ...


@dataclass(frozen=True)
class Target:
    """A clip to learn, under one of its labels."""

    clip: Clip
    corpus: Corpus
    task: str
    label: str


class Targets:
    """Targets with the references each may take its style from.

    Args:
        clips: with the corpora they are in; a clip with labels of two tasks is two targets.
        tasks: labels to learn.
        draw: how references are chosen.

    Raises:
        DataError: fewer than two clips, so that there is no reference that is not the target.
    """

    def __init__(self, clips: Sequence[tuple[Clip, Corpus]], tasks: Sequence[str], draw: DrawConfig):
        self.draw = draw
        self.items = [
            Target(clip, corpus, task, clip.labels[task])
            for task in tasks
            for clip, corpus in clips
            if task in clip.labels
        ]
        self.clips = list({item.clip.clip_id: (item.clip, item.corpus) for item in self.items}.values())
        if len(self.clips) < 2:
            raise DataError(
                f"{len(self.clips)} clips with labels of {', '.join(tasks)}: a target needs another clip for "
                "its style",
                cure="give corpora with such clips in the splits for training and in the one for validation",
            )
        self.pools: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
        self.places = {clip.clip_id: index for index, (clip, _) in enumerate(self.clips)}
        for index, (clip, _) in enumerate(self.clips):
            for key in self._keys(clip):
                self.pools[key].append(index)

    @staticmethod
    def _keys(clip: Clip) -> list[tuple[str | None, ...]]:
        """Pools of a clip, nearest style first."""
        return [
            ("subject", clip.subject_id),
            ("device", clip.source, clip.device),
            ("source", clip.source),
            (),
        ]

    def reference(self, target: Clip, rng: np.random.Generator) -> tuple[Clip, Corpus]:
        """Another clip of the same subject, or of the same device, source, corpus: never the target."""
        keys = self._keys(target)
        if rng.random() >= self.draw.same_subject:
            keys = [*keys[1:], keys[0]]
        own = self.places.get(target.clip_id, -1)
        for key in keys:
            pool = self.pools[key]  # ascending, so that the target is skipped without reading all of it
            place = bisect_left(pool, own)
            held = place < len(pool) and pool[place] == own
            if len(pool) > held:
                drawn = int(rng.integers(len(pool) - held))
                return self.clips[pool[drawn + (held and drawn >= place)]]
        raise DataError(f"no clip but {target.clip_id} itself could lend its style")

    def labels(self) -> dict[str, tuple[str, ...]]:
        """Task → classes that occur, in the task's order."""
        found = {(item.task, item.label) for item in self.items}
        return {
            task: tuple(name for name in get_task(task).classes if (task, name) in found)
            for task in dict.fromkeys(item.task for item in self.items)
        }

    def weights(self, *, collections: bool = False) -> np.ndarray:
        """Sampling weights ``(N,)``: a class with n clips has weight n ** balance; tasks are equal.

        With ``collections``, real and simulated clips of a class have such a weight each.
        """
        groups = [
            (item.task, item.label, collections and is_simulated(item.clip.source)) for item in self.items
        ]
        counts = Counter(groups)
        mass = {key: count**self.draw.balance for key, count in counts.items()}
        task_mass: Counter[str] = Counter()
        for (task, *_), value in mass.items():
            task_mass[task] += value  # type: ignore[assignment]
        return np.array([mass[key] / counts[key] / task_mass[key[0]] for key in groups])

    @property
    def kinds(self) -> tuple[EventKind, ...]:
        """Kinds of events that occur, in the schema's order."""
        found = {event.kind for item in self.items for event in item.clip.events}
        return tuple(kind for kind in get_args(EventKind) if kind in found)

    @property
    def subjects(self) -> set[str]:
        """Subjects of all clips, references included."""
        return {clip.subject_id for clip, _ in self.clips}


def divide(corpora: Sequence[Corpus], tasks: Sequence[str], draw: DrawConfig) -> tuple[Targets, Targets]:
    """Training and validation targets by split; validation keeps to labels that training has.

    Raises:
        DataError: fewer than two clips on a side.
    """
    every = [(clip, corpus) for corpus in corpora for clip in corpus.clips]
    train = Targets([pair for pair in every if pair[0].split in draw.splits], tasks, draw)
    valid = Targets([pair for pair in every if pair[0].split == draw.valid], tasks, draw)
    known = train.labels()
    valid.items = [item for item in valid.items if item.label in known.get(item.task, ())]
    return train, valid
