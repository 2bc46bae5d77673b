"""Rooms for comparisons: diagnosers whose skill depends on what they were trained with, and on the seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from agent_fakes import CLASSES, FakeRooms

from agent.config import LoopConfig
from agent.rooms import PREDICTIONS
from diagnoser.figures import figures
from diagnoser.predictions import Predictions
from resp229k.corpus import Corpus
from training.files import digest, read_json, write_json


class ComparedRooms(FakeRooms):
    """Test predictions follow from the model alone. ``log`` is shared by all loops of a comparison."""

    def __init__(self, config: LoopConfig, run: Path, log: list[str], **given: Any):
        super().__init__(run, **given)
        self.config, self.calls = config, log

    def train_diagnoser(self, folder: Path, **given: Any) -> None:
        super().train_diagnoser(folder, **given)
        copies = read_json(self.run / given["repeats"]) if given["repeats"] else {}
        clips = sum(len(Corpus.open(self.run / one)) for one in given["synthetic"])
        balanced, seed = self.config.diagnoser.balanced, self.config.seed
        write_json(
            folder / "model" / "config.json",
            {"clips": clips, "copies": sum(copies.values()), "balanced": balanced, "seed": seed},
        )

    def evaluate(self, model: Path, tail: Sequence[str], folder: Path) -> dict[str, Any]:
        self._called("evaluate")
        record = read_json(model / "config.json")
        skill = 0.4 + 0.02 * record["clips"] + 0.01 * record["copies"] + 0.1 * record["balanced"]
        rng = np.random.default_rng(int(digest(record)[:8], 16))
        clips = Corpus.open(self.run / "corpus").subset(split="test", task="icbhi4").clips
        labels = np.array([CLASSES.index(c.labels["icbhi4"]) for c in clips])
        right = rng.uniform(size=len(clips)) < skill
        guesses = np.where(right, labels, (labels + 1) % 4)
        said = Predictions(
            [c.clip_id for c in clips], [c.subject_id for c in clips], labels, np.eye(4)[guesses], CLASSES
        )
        said.save(folder / PREDICTIONS)
        found = figures(said, tail=tail, draws=1, task="icbhi4")
        names = ("macro_f1", "tail_macro_f1", "accuracy", "sp", "se", "score")
        return {
            "clips": len(clips),
            "subjects": len(clips),
            "metrics": {n: {"value": found[n], "low": None, "high": None} for n in names},
            "prior": {"class": "normal", "macro_f1": 0.1, "accuracy": 0.25},
            "confusion": found["confusion"]["counts"],
            "classes": list(CLASSES),
        }
