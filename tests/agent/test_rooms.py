"""The real rooms with the shipped weights, as far as they answer within seconds."""

from __future__ import annotations

import math
from pathlib import Path

from agent_fakes import config

from agent.nodes.clips import ClipRequest
from agent.rooms import Rooms
from resp229k.simulate import SimulateConfig, simulate_corpus
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
    assert rooms.encoder_subjects() <= rooms.trained_subjects() and rooms.encoder_subjects()
    assert Rooms(config(generator={"backend": "simulator"}), tmp_path).longest_clip() == math.inf
