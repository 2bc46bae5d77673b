"""The graph with small stand-ins for the other rooms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agent_fakes import CLASSES, TRAIN, FakeRooms, config

from agent.loop import run_loop
from agent.nodes.clips import ClipRequest, synthetic_clip
from agent.nodes.plan import draw_repeats
from agent.nodes.prepare import tail_classes
from agent.rooms import Made
from resp229k.clip import Clip, Metadata
from resp229k.corpus import Corpus
from training.errors import ConfigError, ContaminationError, RunError
from training.files import read_json
from training.run import open_run


def loop(run: Path, rooms: FakeRooms, *, resume: bool = False, **values: object) -> dict:
    return run_loop(config(**values), run, resume, rooms)  # type: ignore[arg-type]


def nodes_of(run: Path) -> list[str]:
    return sorted(p.name.rpartition("-")[0] for p in (run / "rounds").glob("*/*"))


def test_open_gate_synthesizes_screens_and_retrains(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run)
    rooms.known = {"elsewhere:1"}
    summary = loop(run, rooms)
    results = summary["results"]
    assert results["gate"]["open"]
    rounds = results["planners"]["thinker"]["rounds"]
    assert [r["method"] for r in rounds] == ["baseline", "synthesize", "synthesize"]
    for record in rounds[1:]:
        assert sum(record["planned"].values()) == 6
        assert all(record["added"].get(name, 0) >= 1 for name in record["planned"])
    # Round 0 has no synthetic corpus, each later one is added to those before.
    assert [len(t["synthetic"]) for t in rooms.training] == [0, 1, 2]
    for folder in rooms.training[-1]["synthetic"]:
        clips = Corpus.open(run / folder).clips
        assert read_json(run / folder / "subjects.json") == ["elsewhere:1"]
        assert clips
        records = [read_json((run / folder / c.path).with_suffix(".json")) for c in clips]
        assert [r["reference_subject"] for r in records] == [c.subject_id for c in clips]
        assert all(
            c.synthetic and c.split == "train" and c.subject_id.startswith("fake:train") for c in clips
        )
    assert (run / "report.html").is_file()
    assert (run / summary["diagnoser"]).is_dir()
    assert rooms.calls.count("evaluate") == 1
    assert rooms.calls.count("generate") == 3  # probes once, then one per round


def test_closed_gate_says_so_and_falls_back_to_oversample(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run, skill=0.0)
    results = loop(run, rooms, planners=["thinker", "oversample"])["results"]
    assert not results["gate"]["open"]
    assert rooms.calls.count("generate") == 1  # the probes, and nothing else
    assert list((run / "rounds").glob("00/gate-*/probe/audio/*.wav"))
    assert list((run / "rounds").glob("00/gate-*/screened/screen.json"))
    thinker, oversample = (results["planners"][p] for p in ("thinker", "oversample"))
    for record in thinker["rounds"][1:]:
        assert record["fallback"]
        assert record["gate"] == "closed"
        assert sum(record["added"].values()) == 6
    assert thinker["added"] == oversample["added"]
    # What copies brought says nothing of the planner's own clips.
    given = [read_json(path) for path in (run / "rounds").glob("02/plan-*/inputs.json")]
    (asked,) = [one["request"] for one in given if one["planner"] == "thinker"]
    assert any(c["extra"] for c in asked["classes"]) and all(c["gains"] == [] for c in asked["classes"])
    # Equal inputs, one folder: the fallback's diagnosers serve the oversample planner as well.
    assert rooms.calls.count("train") == 3
    assert "Gate closed." in (run / "report.html").read_text()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert any(e["event"] == "gate" and e["open"] is False for e in events)


def test_unknown_classes_close_the_gate(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run, labels=())
    results = loop(run, rooms)["results"]
    assert "share no class" in results["gate"]["reason"]
    assert "generate" not in rooms.calls


def test_only_known_classes_are_planned_for_synthesis(tmp_path: Path) -> None:
    run = tmp_path / "run"
    results = loop(run, FakeRooms(run, labels=("wheeze", "both")), rounds=1)["results"]
    assert set(results["planners"]["thinker"]["added"]) <= {"wheeze", "both"}
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    (note,) = [e["note"] for e in events if e["event"] == "done" and e["node"] == "prepare"]
    assert "no synthetic clips of normal, crackle: " in note


def test_none_reuses_the_baseline(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run)
    results = loop(run, rooms, planners=["none"])["results"]
    assert rooms.calls.count("train") == 1
    assert len(results["planners"]["none"]["rounds"]) == 3
    assert results["gate"] is None


def test_oversample_duplicates_evenly(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run)
    loop(run, rooms, planners=["oversample"], rounds=1, budget=9)
    repeats = read_json(run / rooms.training[-1]["repeats"])
    assert sum(repeats.values()) == 9
    assert repeats["train-both-0"] == max(repeats.values())


@pytest.mark.slow
@pytest.mark.parametrize("node", ["corpus", "train", "generate", "score", "evaluate"])
def test_interrupted_anywhere_then_resumed_gives_the_same_results(tmp_path: Path, node: str) -> None:
    whole = loop(tmp_path / "whole", FakeRooms(tmp_path / "whole"))
    run = tmp_path / "broken"
    rooms = FakeRooms(run)
    rooms.fail_at = node
    with pytest.raises(KeyboardInterrupt):
        loop(run, rooms)
    with pytest.raises(RunError, match="--resume"):
        loop(run, rooms)
    again = loop(run, FakeRooms(run), resume=True)
    assert json.dumps(again["results"], sort_keys=True) == json.dumps(whole["results"], sort_keys=True)
    assert not list((run / "rounds").rglob("*.tmp"))


def test_a_finished_run_resumed_does_no_work(tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = loop(run, FakeRooms(run))
    rooms = FakeRooms(run)
    after = loop(run, rooms, resume=True)
    assert rooms.calls == []
    assert after["results"] == before["results"]


def test_nodes_are_idempotent_without_the_checkpoints(tmp_path: Path) -> None:
    run = tmp_path / "run"
    before = loop(run, FakeRooms(run))
    (run / "checkpoints.sqlite").unlink()
    rooms = FakeRooms(run)
    assert loop(run, rooms, resume=True)["results"] == before["results"]
    assert rooms.calls == []


def test_another_config_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop(run, FakeRooms(run), rounds=1)
    with pytest.raises(RunError, match=r"another config .*budget"):
        loop(run, FakeRooms(run), resume=True, rounds=1, budget=7)


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    loop(run, FakeRooms(run), rounds=1)
    monkeypatch.setattr(FakeRooms, "weights_digest", lambda self: "others")
    with pytest.raises(RunError, match="other weights"):
        loop(run, FakeRooms(run), resume=True, rounds=1)


def test_two_processes_cannot_share_a_run(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", config()), pytest.raises(RunError, match="in use by another process"):
        loop(tmp_path / "run", FakeRooms(tmp_path / "run"), resume=True)


def test_strange_folders_and_missing_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="no run folder"):
        loop(tmp_path, FakeRooms(tmp_path))
    with pytest.raises(RunError, match="without --resume"):
        loop(tmp_path / "never", FakeRooms(tmp_path), resume=True)


def test_nothing_in_the_run_names_an_absolute_path(tmp_path: Path) -> None:
    run = tmp_path / "run"
    loop(run, FakeRooms(run), rounds=1)
    for path in run.rglob("*"):
        if path.suffix in {".json", ".jsonl", ".yaml", ".html", ".sqlite"}:
            assert str(tmp_path).encode() not in path.read_bytes(), path


def test_fakes_are_long_tailed() -> None:
    assert tail_classes(TRAIN, 0.5) == ["both"]
    assert tail_classes({"a": 5, "b": 5, "c": 0}, 0.5) == ["a"]
    assert set(TRAIN) == set(CLASSES)


def test_repeats_stay_level_over_rounds() -> None:
    ids = {"a": [f"a{i}" for i in range(5)]}
    first = draw_repeats(ids, {"a": 7}, {}, seed=1)
    second = draw_repeats(ids, {"a": 8}, first, seed=2)
    assert sum(second.values()) == 15
    assert set(second.values()) == {3}


def test_weights_that_know_held_out_subjects_are_refused(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    rooms.known = {"fake:plan-wheeze-0"}
    with pytest.raises(ContaminationError, match="plan-wheeze-0"):
        loop(tmp_path / "run", rooms)


def test_encoders_that_know_held_out_subjects_are_refused_for_every_planner(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    rooms.heard = {"fake:train-normal-0", "fake:select-both-1"}
    with pytest.raises(ContaminationError, match=r"encoder was trained on 1 .*select-both-1"):
        loop(tmp_path / "run", rooms, planners=["none"])
    assert rooms.calls == ["corpus"]


def test_an_encoder_may_be_chosen_on_select_alone(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "select")
    rooms.chosen = {"fake:select-both-1"}
    assert loop(tmp_path / "select", rooms, planners=["none"])["results"]
    for split in ("plan", "test"):
        rooms = FakeRooms(tmp_path / split)
        rooms.chosen = {f"fake:{split}-both-0"}
        with pytest.raises(ContaminationError, match=rf"encoder was chosen on 1 .*{split}-both-0"):
            loop(tmp_path / split, rooms, planners=["none"])


def test_clips_longer_than_the_generator_makes_are_refused_before_training(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    rooms.longest = 0.5
    with pytest.raises(ConfigError, match=r"at most 0\.5 s"):
        loop(tmp_path / "run", rooms, planners=["none", "thinker"])
    assert rooms.calls == ["corpus"]
    real = FakeRooms(tmp_path / "real")
    real.longest = 0.5
    assert loop(tmp_path / "real", real, planners=["none"])


def test_a_synthetic_clip_is_its_references_subject_in_train() -> None:
    def real(name: str, label: str, age: float) -> Clip:
        return Clip(
            clip_id=name, recording_id=name, subject_id=f"s:{name}", source="s", split="train", path=f"{name}.wav",
            start=0, end=1, sample_rate=8000, labels={"icbhi4": label},
            metadata=Metadata(age_years=age, diagnosis="COPD", findings="CAS"),
        )  # fmt: skip

    request = ClipRequest("wheeze", reference=real("style", "normal", 70), donor=real("own", "wheeze", 5))
    clip = synthetic_clip(request, Made("audio/a.wav", 0.5), "syn-1", "icbhi4", "synthetic")
    assert (clip.subject_id, clip.split, clip.source, clip.synthetic) == (
        "s:style",
        "train",
        "synthetic",
        True,
    )
    assert clip.labels == {"icbhi4": "wheeze"}
    assert clip.seconds == 0.5
    # The narrative's facts come from the class, never the style's; what defines a label is left out.
    assert clip.metadata == Metadata(age_years=5)
