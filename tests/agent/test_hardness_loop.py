"""Restyling and hardness in the loop, with small stand-ins for the other rooms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import CLASSES, FakeRooms, config

from agent.loop import run_loop
from resp229k.audio import is_tagged_synthetic
from resp229k.corpus import Corpus
from training.files import read_json


def test_restyled_clips_need_no_gate_and_no_generator(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run, labels=())
    results = run_loop(config(planners=["restyle"]), run, rooms=rooms)["results"]  # type: ignore[arg-type]
    assert "generate" not in rooms.calls and results["gate"] is None
    records = results["planners"]["restyle"]["rounds"]
    assert [r["method"] for r in records] == ["baseline", "restyle", "restyle"]
    pairs = []
    real = {c.clip_id: c for c in Corpus.open(run / "corpus").clips}
    for folder in rooms.training[-1]["synthetic"]:
        lent = set(read_json(run / folder / "subjects.json"))
        for clip in Corpus.open(run / folder).clips:
            told = read_json(
                next(run.glob(f"rounds/*/synthesize-*/corpus/{Path(clip.path).with_suffix('.json')}"))
            )
            assert clip.synthetic and clip.split == "train" and clip.source == "restyled"
            assert clip.subject_id == told["subject"] and told["reference_subject"] in lent
            assert real[told["clip"]].labels == clip.labels
            assert real[told["clip"]].split == real[told["reference"]].split == "train"
            assert is_tagged_synthetic(run / folder / clip.path)
            pairs.append((told["clip"], told["reference"]))
    assert len(set(pairs)) == len(pairs) > 6  # two rounds, never the same pair


@pytest.mark.slow
def test_picks_ask_the_current_diagnoser_and_keep_equal_counts(tmp_path: Path) -> None:
    kept, losses = {}, {}
    for pick in ("hard", "random", "easy"):
        run = tmp_path / pick
        rooms = FakeRooms(run)
        given = config(planners=["fill"], rounds=1, thinker={"pick": pick})
        results = run_loop(given, run, rooms=rooms)["results"]  # type: ignore[arg-type]
        kept[pick] = results["planners"]["fill"]["added"]
        assert rooms.calls.count("losses") == 1
        (path,) = run.glob("rounds/01/screen-*/screen.json")
        report = read_json(path)
        assert sum(report["generated"].values()) == 4 * sum(report["planned"].values())
        losses[pick] = [v["loss"] for v in report["verdicts"] if v["kept"]]
        assert all(v["pick"] == pick for v in report["verdicts"])
    assert kept["hard"] == kept["random"] == kept["easy"]
    assert sum(losses["hard"]) > sum(losses["random"]) > sum(losses["easy"])


def test_a_later_round_drops_what_an_earlier_one_kept(tmp_path: Path) -> None:
    class Repeating(FakeRooms):
        def generate(self, requests: Any, folder: Path, seed: int) -> Any:
            return super().generate(requests, folder, 0)

    run = tmp_path / "run"
    run_loop(config(planners=["class-prior"]), run, rooms=Repeating(run))  # type: ignore[arg-type]
    first, second = (
        read_json(path)["verdicts"] for path in sorted(run.glob("rounds/*/screen-*/screen.json"))
    )
    kept = {v["clip_id"] for v in first if v["kept"]}
    assert kept and {v["reason"] for v in second if v["clip_id"] in kept} <= {"duplicate", "near duplicate"}
    assert any(v["reason"] in ("duplicate", "near duplicate") for v in second)


@pytest.mark.slow
def test_rejections_and_gains_reach_the_next_request(tmp_path: Path) -> None:
    run = tmp_path / "run"
    # A third of the clips sound wrong; the gate lets them through all the same.
    rooms = FakeRooms(run, skill=0.7)
    given = config(planners=["fill"], gate={"ratio": 0, "probe": 2}, screen={"copies": True})
    run_loop(given, run, rooms=rooms)  # type: ignore[arg-type]
    requests = [json.loads(p.read_text())["request"] for p in sorted(run.glob("rounds/*/plan-*/inputs.json"))]
    first, second = ({c["label"]: c for c in r["classes"]} for r in requests)
    assert [r["round"] for r in requests] == [1, 2]
    (path,) = run.glob("rounds/01/screen-*/screen.json")
    verdicts = read_json(path)["verdicts"]
    for name in CLASSES:
        assert first[name]["screened"] == 0 and first[name]["gains"] == []
        assert first[name]["f1_error"] > 0.1 and first[name]["confidence_error"] > 0
        mine = [v for v in verdicts if v["label"] == name]
        assert second[name]["screened"] == len(mine)
        assert second[name]["rejected"] == sum(not v["kept"] and v["reason"] != "surplus" for v in mine)
        assert second[name]["first_confidence"] == first[name]["confidence"]
        added = any(v["kept"] for v in mine)
        assert second[name]["gain_errors"] == ([0.1] if added else [])
    assert sum(c["rejected"] for c in second.values()) > 0
    assert second["both"]["confusions"] == {"normal": 3} and second["both"]["draws"]["synthesize"]["own"] == 1
    assert list(run.glob("rounds/00/likeness-*/prints.npz"))
