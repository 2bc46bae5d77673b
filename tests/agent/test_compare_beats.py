"""The comparison of recipes: what was finished is not repeated, what differs is, and the table adds up."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import compare_beats as module
from agent.compare_beats import compare_beats, table
from agent.config_pretrain import HeardConfig
from beats.compare import RECIPES, RecipeConfig, RecipeRow
from beats.probe import FEATURES
from beats.probe_data import ProbeSet
from training.errors import ConfigError
from training.files import read_json

DATA = HeardConfig(root=None, encoder_events=36, workers=1)
CONFIG = RecipeConfig(steps=1, seeds=2)
NAMES = ["events, conv stem", "masked, patch stem"]


def two_classes(names: Any, *, without: set[str], **how: Any) -> list[ProbeSet]:
    """A small set instead of the suites; it checks who is kept out of them."""
    assert len(without) == 12  # subjects of the 36 clips
    subjects = np.array([f"p{i // 2}" for i in range(24)])
    return [
        ProbeSet(
            name="simulated", classes=("a", "b"), frames=np.zeros((24, 98, 128), np.float16),
            labels=np.arange(24) % 2, subjects=subjects, parts=np.array(["all"] * 24),
        )
    ]  # fmt: skip


def row(recipe: str, read: str, seed: int, accuracy: float, suite: str = "simulated") -> RecipeRow:
    units = {} if read == FEATURES else {"perplexity": [10.0 + seed], "dead": [seed]}
    return RecipeRow(
        recipe=recipe, read=read, suite=suite, seed=seed, chance=0.25, balanced_accuracy=accuracy,
        auroc=0.5, **units,
    )  # fmt: skip


def test_the_table_gives_means_and_what_units_keep() -> None:
    rows = [
        row("a", FEATURES, 0, 0.75), row("a", "k-means 8", 0, 0.50),
        row("a", FEATURES, 1, 0.25), row("a", "k-means 8", 1, 0.30),
    ]  # fmt: skip
    lines = table(rows)
    assert lines[0] == ["recipe", "read from", "simulated", "perplexity", "dead"]
    assert lines[1] == ["a", FEATURES, "0.500 ± 0.354", "", ""]
    # (0.25 + 0.05) / (0.5 + 0): of sums, so that a seed without gain does not decide.
    assert lines[2] == ["a", "k-means 8", "0.400 ± 0.141 (0.60)", "10", "0"]
    assert lines[3] == ["chance", "", "0.250", "", ""]


def test_what_was_finished_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def fake(name: str, heard: Any, sets: Any, config: Any, seed: int, work: Path) -> dict[str, Any]:
        asked.append((name, seed))
        assert len(heard.tagged) == len(heard.whole) == 36
        rows = [row(name, FEATURES, seed, 0.5), row(name, "k-means 8", seed, 0.4)]
        return {"stages": [], "rows": [one.model_dump(mode="json") for one in rows]}

    monkeypatch.setattr(module, "compare_recipe", fake)
    monkeypatch.setattr(module, "load_sets", two_classes)
    out, work = tmp_path / "out", tmp_path / "work"
    rows = compare_beats(DATA, CONFIG, NAMES, out, work)
    assert sorted(asked) == sorted((name, seed) for name in NAMES for seed in range(2))
    assert len(rows) == 8
    assert len(read_json(out / "compare.json")["recipes"]) == 4
    assert len(list(csv.DictReader((out / "compare.csv").open()))) == 8
    assert (out / "compare.png").stat().st_size > 5000

    asked.clear()
    compare_beats(DATA, CONFIG.model_copy(update={"seeds": 3}), NAMES, out, work)
    assert sorted(asked) == sorted((name, 2) for name in NAMES)  # the third seed alone
    asked.clear()
    monkeypatch.setitem(RECIPES, NAMES[0], ())
    compare_beats(DATA, CONFIG, NAMES, out, work)
    assert asked == [(NAMES[0], 0), (NAMES[0], 1)]  # its stages changed


def test_an_unknown_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="magic"):
        compare_beats(DATA, CONFIG, ["magic"], tmp_path / "out", tmp_path / "work")
