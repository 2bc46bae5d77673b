"""The real rooms with the shipped weights, as far as they answer within seconds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from agent_fakes import config

import agent.rooms as rooms_module
from agent.nodes.clips import ClipRequest
from agent.rooms import Rooms
from diagnoser.config import DiagnoserTrainConfig, Learning
from resp229k.simulate import SimulateConfig, simulate_corpus
from training.config import load_config
from training.files import read_json


def test_synthetic_clips_carry_the_subjects_behind_their_makers(tmp_path: Path) -> None:
    counts = {"head": 2, "tail": 1, "select": 1, "plan": 1, "test": 1}
    corpus = simulate_corpus(SimulateConfig(seed=3, seconds=1.0, workers=1, **counts), tmp_path / "corpus")
    rooms = Rooms(config(generator={"backend": "simulator"}, task="disease16"), tmp_path)
    clip = corpus.subset(split="train").clips[0]
    request = ClipRequest(clip.labels["disease16"], clip, clip)
    assert rooms.generate([request], tmp_path / "made", seed=0)
    subjects = read_json(tmp_path / "made" / "subjects.json")
    assert subjects == sorted(rooms.trained_subjects()) and subjects


def test_what_prepare_asks_of_the_weights(tmp_path: Path) -> None:
    rooms = Rooms(config(), tmp_path)
    assert rooms.longest_clip() == 4.0
    heard = set(rooms.encoder_provenance().subjects)
    assert heard and heard <= rooms.trained_subjects()
    assert Rooms(config(generator={"backend": "simulator"}), tmp_path).longest_clip() == math.inf


def test_a_child_learns_as_the_loop_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learning = {
        "model": {"hidden": 32}, "fit": {"steps": 7}, "text": False, "balanced": True, "loss_weights": "effective",
        "effective_beta": 0.9, "logit_adjustment": 0.5, "synthetic_weight": 0.25, "augment": {"mixup": 0.1},
    }  # fmt: skip
    assert set(learning) == set(Learning.model_fields)
    monkeypatch.setattr(rooms_module, "run_command", lambda *_, log, **__: log.write_text(""))
    rooms = Rooms(config(diagnoser=learning, seed=5), tmp_path)
    (tmp_path / "node").mkdir()
    made = {"synthetic": ["made"], "synthetic_weight": 0.1}  # the round's, which is not the config's
    rooms.train_diagnoser(tmp_path / "node", **made, repeats=None, init=None)
    told = load_config(DiagnoserTrainConfig, tmp_path / "node" / "train.yaml")
    asked = Learning(**learning)
    assert told.fit == asked.fit.model_copy(update={"seed": 5})
    assert all(
        getattr(told, name) == getattr(asked, name) for name in set(learning) - {"fit", "synthetic_weight"}
    )
    assert (told.synthetic, told.synthetic_weight, told.seed) == (["made"], 0.1, 5)
