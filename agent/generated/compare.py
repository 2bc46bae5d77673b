"""Rows beside each other: real clips, the simulator, the generator, noise; each seed its own halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.generated.config import EvaluateConfig
from agent.generated.draw import Ask, Drawer, content_swap, plain, style_swap, through
from agent.generated.figures import (
    Ground,
    Measured,
    Near,
    curve,
    measure,
    named,
    real_pairs,
    style,
    summary,
    swap,
)
from agent.generated.hear import Described, Ears
from agent.generated.protocol import Halves, Sides, halve
from generator.likeness import fingerprint, similarities
from resp229k.clip import Clip
from training.progress import track
from training.seeds import derive

if TYPE_CHECKING:
    from generator.sample import Generator

REAL, CODEC, REPLAYED, SIMULATOR, GENERATOR, NOISE = ROWS = (
    "real",
    "codec",
    "replayed",
    "simulator",
    "generator",
    "noise",
)


@dataclass(frozen=True)
class Shown:
    """What page and plots show of the first seed: the clips of every row, what was asked, and the figures."""

    rows: dict[str, Described]
    asks: list[Ask]
    measured: Measured
    halves: Halves
    ground: Ground


class Comparison:
    """All rows of all seeds.

    Args:
        sides: of the comparison.
        generator: whose clips are measured.
        ears: listen.
        config: how many clips and seeds.
        work: keeps the clips that were made with these weights.

    Raises:
        DataError: a class has too few real clips, or no two of all clips share or differ in style.
    """

    def __init__(self, sides: Sides, generator: Generator, ears: Ears, config: EvaluateConfig, work: Path):
        self.sides, self.generator, self.ears, self.config = sides, generator, ears, config
        self.drawer = Drawer(sides.test, sides.task, work)
        self.seeds = [config.seed + i for i in range(config.seeds)]
        self.halves = {seed: halve(sides, config.clips, seed) for seed in self.seeds}
        pool = {clip.clip_id: clip for two in self.halves.values() for clip in (*two.a, *two.b)}
        self.pool_clips = [pool[name] for name in sorted(pool)]
        self.place = {clip.clip_id: i for i, clip in enumerate(self.pool_clips)}
        self.same, self.other, self.by = real_pairs(self.pool_clips, config.seed)

    def run(self) -> tuple[dict[str, Any], Shown]:
        """The results as JSON values, and what the page shows."""
        waves = [self.sides.test.audio(clip) for clip in self.pool_clips]
        labels = [clip.labels[self.sides.task] for clip in self.pool_clips]
        self.pool = self.ears.describe(waves, labels, "real clips")
        train = self.sides.train
        self.train = [fingerprint(train.audio(clip)) for clip in track(train.clips, "listen: training clips")]
        self.near = similarities(self.pool.fingerprints, self.train) if self.train else None
        rows: dict[str, list[Measured]] = {}
        swaps: dict[str, list[dict[str, float]]] = {}
        shown: list[Shown] = []
        curves: dict[str, list[tuple[int, float]]] = {}
        for seed in self.seeds:
            ground = self._ground(seed)
            asks = plain(self.halves[seed].a, self.sides.task, self.generator.seconds, seed)
            made = self._rows(asks, seed, ground)
            for name, clips in made.items():
                measured = measure(clips, ground, self._near(name, seed, clips))
                if name not in (REAL, CODEC):
                    measured.figures |= style(clips, self._places(asks), ground)
                rows.setdefault(name, []).append(measured)
            if not shown:
                shown.append(Shown(made, asks, rows[GENERATOR][0], self.halves[seed], ground))
                curves = {name: curve(clips, ground) for name, clips in made.items()}
            for name, figures in self._swaps(seed, ground).items():
                swaps.setdefault(name, []).append(figures)
        results = {
            "protocol": self._protocol(),
            "rows": {name: _over_seeds(found) for name, found in rows.items()},
            "swaps": {name: summary(found) for name, found in swaps.items()},
            "curves": curves,
        }
        return results, shown[0]

    def _rows(self, asks: Sequence[Ask], seed: int, ground: Ground) -> dict[str, Described]:
        labels = [ask.label for ask in asks]
        waves = [
            through(self.generator.codec, self.sides.test.audio(clip), derive(seed, CODEC, i))
            for i, clip in enumerate(track(self.halves[seed].a, CODEC))
        ]
        found = {REAL: ground.a, CODEC: self.ears.describe(waves, labels, CODEC)}
        if self.generator.mllm is not None:
            told = [replace(ask, content=clip) for ask, clip in zip(asks, self.halves[seed].a, strict=True)]
            waves = self.drawer.neural(self.generator, told, f"neural {REPLAYED}", derive(seed, REPLAYED))
            found[REPLAYED] = self.ears.describe(waves, labels, REPLAYED)
        if self.sides.simulated:
            waves = self.drawer.simulator(asks, SIMULATOR, derive(seed, SIMULATOR))
            found[SIMULATOR] = self.ears.describe(waves, labels, SIMULATOR)
        waves = self.drawer.neural(self.generator, asks, "neural", derive(seed, "neural"))
        found[GENERATOR] = self.ears.describe(waves, labels, GENERATOR)
        waves = self.drawer.noise(asks, NOISE, derive(seed, NOISE))
        found[NOISE] = self.ears.describe(waves, labels, NOISE)
        return found

    def _swaps(self, seed: int, ground: Ground) -> dict[str, dict[str, float]]:
        half, task, longest = self.halves[seed].a, self.sides.task, self.generator.seconds
        found = {}
        for name, asks in (
            ("style swap", style_swap(half, task, longest, seed)),
            ("content swap", content_swap(half, task, self.sides.classes, longest, seed)),
        ):
            waves = self.drawer.neural(self.generator, asks, f"neural {name}", derive(seed, name))
            made = self.ears.hear(waves, [ask.label for ask in asks], name)
            found[name] = swap(made, self._places(asks), [ask.group for ask in asks], ground)
        return found

    def _ground(self, seed: int) -> Ground:
        two = self.halves[seed]
        return Ground(
            classes=self.sides.classes,
            tail=self.sides.tail,
            judged=self.ears.judge.classes,
            a=self._heard(two.a),
            b=self._heard(two.b),
            subjects=[clip.subject_id for clip in two.b],
            pool=self.pool,
            same=self.same,
            other=self.other,
            train_ids=[clip.clip_id for clip in self.sides.train.clips],
            usual=None if self.near is None else self.near[1],
            seed=seed,
        )

    def _near(self, name: str, seed: int, made: Described) -> Near | None:
        """Nearest training clips of the rows where copies are searched: it takes the longest of all."""
        if self.near is None or name not in (REAL, GENERATOR):
            return None
        if name == REAL:
            places = self._rows_of(self.halves[seed].a)
            return self.near[0][places], self.near[1][places]
        return similarities(made.fingerprints, self.train)

    def _rows_of(self, clips: Sequence[Clip]) -> list[int]:
        """Rows of ``pool``."""
        return [self.place[clip.clip_id] for clip in clips]

    def _heard(self, clips: Sequence[Clip]) -> Described:
        return self.pool.take(self._rows_of(clips))

    def _places(self, asks: Sequence[Ask]) -> list[int]:
        return self._rows_of([ask.reference for ask in asks])

    def _protocol(self) -> dict[str, Any]:
        sides, first = self.sides, self.halves[self.seeds[0]]
        counts = {name: sum(clip.labels[sides.task] == name for clip in first.a) for name in sides.classes}
        grounds = [self._ground(seed) for seed in self.seeds]
        return {
            "what": sides.what,
            "task": sides.task,
            "classes": list(sides.classes),
            "tail": list(sides.tail),
            "clips": counts,
            "seeds": self.seeds,
            "test_clips": len(sides.test),
            "heard_clips": len(self.pool_clips),
            "test_subjects": len(sides.test.subjects),
            "train_clips": len(sides.train),
            "styles": self.by,
            "style_pairs": [len(self.same), len(self.other)],
            "judge_recall_real": float(np.mean([named(ground.b, ground).macro for ground in grounds])),
        }


def _over_seeds(found: Sequence[Measured]) -> dict[str, Any]:
    return {
        "figures": summary([one.figures for one in found]),
        "classes": {name: summary([one.classes[name] for one in found]) for name in found[0].classes},
    }
