"""Warm starts, the synthetic share, and the guard that rolls a round back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_fakes import TRAIN, FakeRooms, config

from agent.curriculum import forgot, paired_difference, share_of, synthetic_weight
from agent.graph import checkpoints, run_planner
from agent.loop import run_loop
from agent.rooms import PREDICTIONS, Rooms
from agent.state import LoopState
from agent.work import Work
from diagnoser.config import Learning
from diagnoser.predictions import Predictions
from training.errors import ConfigError, DataError
from training.files import read_json
from training.run import open_run

REAL = {"a": 80, "b": 20}


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report takes as long as the rest of a loop of fakes, and is tested elsewhere."""
    monkeypatch.setattr("agent.loop.write_report", lambda *_: None)


def final_state(run: Path, rooms: FakeRooms, **values: Any) -> LoopState:
    settings = config(**values)
    with open_run(run, settings) as opened, checkpoints(run) as saver:
        return run_planner(Work(opened, settings, rooms), saver, settings.planners[0])  # type: ignore[arg-type]


def carried(weight: float, real: dict[str, int], made: dict[str, int], chosen: Learning) -> float:
    """Share of the loss that synthetic clips carry, summed clip by clip."""
    mass = {"real": 0.0, "made": 0.0}
    for name in real:
        size = real[name] + made.get(name, 0)
        one = 1 / size if chosen.balanced else 1.0
        if chosen.loss_weights == "inverse":
            one /= size
        if chosen.loss_weights == "effective":
            one /= sum(chosen.effective_beta**k for k in range(size))
        mass["real"] += one * real[name]
        mass["made"] += one * weight * made.get(name, 0)
    return mass["made"] / (mass["real"] + mass["made"])


def test_the_schedule_stays_at_its_last_value() -> None:
    settings = config(curriculum={"synthetic_share": [0.3, 0.5]}).curriculum
    assert [share_of(settings, n) for n in range(5)] == [None, 0.3, 0.5, 0.5, 0.5]
    assert share_of(config().curriculum, 3) is None


@pytest.mark.parametrize("shares", [[], [1.2], [-0.1]])
def test_shares_that_are_none_are_refused(shares: list[float]) -> None:
    with pytest.raises(ConfigError, match="synthetic_share"):
        config(curriculum={"synthetic_share": shares})


def test_a_share_that_is_not_reached_changes_nothing() -> None:
    assert synthetic_weight(0.5, REAL, {"b": 50}, Learning()) == 1.0
    assert synthetic_weight(None, REAL, {"b": 5000}, Learning()) == 1.0
    assert synthetic_weight(1.0, REAL, {"b": 5000}, Learning()) == 1.0
    assert synthetic_weight(0.0, REAL, {}, Learning(synthetic_weight=0.5)) == 0.5
    assert synthetic_weight(0.9, REAL, {"b": 50}, Learning(synthetic_weight=0.5)) == 0.5


def test_a_share_without_balancing_by_hand() -> None:
    # 100 real and 150 synthetic clips: 0.3 of the loss is 3/7 of 100, on 150 clips.
    assert synthetic_weight(0.3, REAL, {"b": 150}, Learning()) == pytest.approx(300 / 7 / 150, abs=1e-6)
    assert synthetic_weight(0.0, REAL, {"b": 150}, Learning()) == 0.0


def test_a_share_with_balanced_sampling_by_hand() -> None:
    # b is drawn half the time, and of its 40 clips 20 are synthetic: a quarter of all draws.
    chosen = Learning(balanced=True)
    assert synthetic_weight(0.25, REAL, {"b": 20}, chosen) == 1.0
    assert synthetic_weight(0.1, REAL, {"b": 20}, chosen) == pytest.approx((1 / 9) * 0.75 / 0.25, abs=1e-6)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("weights", ["none", "inverse", "effective"])
@pytest.mark.parametrize("share", [0.05, 0.2])
def test_the_share_is_kept_whatever_else_weighs_the_clips(balanced: bool, weights: Any, share: float) -> None:
    chosen = Learning(balanced=balanced, loss_weights=weights, effective_beta=0.9)
    made = {"a": 40, "b": 60}
    weight = synthetic_weight(share, REAL, made, chosen)
    assert weight < 1
    assert carried(weight, REAL, made, chosen) == pytest.approx(share, abs=1e-5)


def test_the_loop_lowers_the_weight_and_leaves_no_clip_out(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    run_loop(config(curriculum={"synthetic_share": [0.1, 0.2]}), tmp_path / "run", rooms=rooms)  # type: ignore[arg-type]
    assert [len(given["synthetic"]) for given in rooms.training] == [0, 1, 2]
    # 23 real clips; 6 and then 12 synthetic ones.
    wanted = [1.0, 23 / 9 / 6, 23 / 4 / 12]
    assert [g["synthetic_weight"] for g in rooms.training] == pytest.approx(wanted, abs=1e-6)


def test_copies_count_as_real_clips(tmp_path: Path) -> None:
    """A closed gate gives the budget to copies: the share is of what is trained on, copies included."""
    rooms = FakeRooms(tmp_path / "run")
    run_loop(
        config(planners=["oversample"], curriculum={"synthetic_share": [0.1]}), tmp_path / "run", rooms=rooms
    )  # type: ignore[arg-type]
    assert [given["synthetic_weight"] for given in rooms.training] == [1.0] * 3


def test_warm_starts_begin_from_the_round_before(tmp_path: Path) -> None:
    for warm, wanted in ((True, ["rounds/00", "rounds/01"]), (False, [])):
        rooms = FakeRooms(tmp_path / str(warm))
        run_loop(config(diagnoser={"warm_start": warm}), tmp_path / str(warm), rooms=rooms)  # type: ignore[arg-type]
        starts = [given["init"] for given in rooms.training]
        assert starts[0] is None
        assert [init.rpartition("/retrain-")[0] for init in starts[1:] if init] == wanted


def predictions(guesses: list[int], labels: list[int], subjects: list[str]) -> Predictions:
    names = [f"c{i}" for i in range(len(labels))]
    return Predictions(names, subjects, np.array(labels), np.eye(2, dtype=np.float32)[guesses], ("x", "y"))


def test_the_difference_is_paired_over_subjects() -> None:
    labels, subjects = [0, 1] * 20, [f"s:{i // 2}" for i in range(40)]
    right, always_x = predictions(labels, labels, subjects), predictions([0] * 40, labels, subjects)
    same = paired_difference(always_x, always_x)
    assert same == {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert not forgot(same)
    # Each subject has one clip of each class, so every draw of subjects gives F1 2/3 and 0.
    worse = paired_difference(always_x, right)
    assert worse == {"difference": -0.666667, "low": -0.666667, "high": -0.666667}
    assert forgot(worse)
    assert not forgot(paired_difference(right, always_x))


def test_one_clip_more_wrong_is_within_the_interval() -> None:
    labels, subjects = [0, 1] * 20, [f"s:{i // 2}" for i in range(40)]
    found = paired_difference(
        predictions([1, *labels[1:]], labels, subjects), predictions(labels, labels, subjects)
    )
    assert found["difference"] < 0
    assert found["high"] == 0.0  # the subject is absent from a third of the draws
    assert not forgot(found)


def test_predictions_of_other_clips_are_refused() -> None:
    one, other = predictions([0], [0], ["s:1"]), predictions([0, 1], [0, 1], ["s:1", "s:2"])
    with pytest.raises(DataError, match="other clips"):
        paired_difference(one, other)


def test_the_rooms_compare_the_predictions_that_were_kept(tmp_path: Path) -> None:
    labels, subjects = [0, 1] * 20, [f"s:{i // 2}" for i in range(40)]
    predictions([0] * 40, labels, subjects).save(tmp_path / "new" / PREDICTIONS)
    predictions(labels, labels, subjects).save(tmp_path / "old" / PREDICTIONS)
    found = Rooms(config(), tmp_path).difference(tmp_path / "new", tmp_path / "old")
    assert found["difference"] == pytest.approx(-2 / 3, abs=1e-6)


def test_a_round_that_forgets_is_rolled_back(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run)
    rooms.bad_rounds = {2}
    found = final_state(run, rooms, rounds=3, curriculum={"guard": True}, diagnoser={"warm_start": True})
    records = found["records"]
    assert [r["rolled_back"] for r in records] == [False, False, True, False]
    assert records[2]["guard"] == {"difference": -0.2, "low": -0.3, "high": -0.1}
    assert sum(records[2]["added"].values()) == 6  # tried in vain
    # Round 3 begins where round 1 ended: its clips, its weights, its predictions.
    before, after = rooms.training[1], rooms.training[3]
    assert after["synthetic"][:-1] == before["synthetic"]
    assert not set(after["synthetic"]) & (set(rooms.training[2]["synthetic"]) - set(before["synthetic"]))
    assert after["init"].startswith("rounds/01/")
    assert found["scores"][2] == found["scores"][1]
    assert sum(found["added"].values()) == 12
    assert (found["model_round"], found["test"][:9]) == (3, "rounds/03")  # type: ignore[index]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [e["round"] for e in events if e["event"] == "rolled_back"] == [2]
    # The planner is told which round was undone, and what its clips did is evidence like any other.
    requests = [json.loads(p.read_text())["request"] for p in sorted(run.glob("rounds/*/plan-*/inputs.json"))]
    assert [r["rolled_back"] for r in requests] == [[], [], [2]]
    given = {name for name, count in records[2]["added"].items() if count}
    assert {c["label"] for c in requests[2]["classes"] if len(c["gains"]) == 2} >= given & set(
        records[1]["added"]
    )
    assert given and all(c["gains"] for c in requests[2]["classes"] if c["label"] in given)
    # Clips are held against those that stand: the round that was undone left none.
    asked = [json.loads(p.read_text()) for p in sorted(run.glob("rounds/*/screen-*/inputs.json"))]
    assert len(asked) == 3


def test_the_thinker_stops_a_loop_whose_rounds_bring_nothing(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    rooms.gains = lambda *_: dict.fromkeys(TRAIN, (-0.01, 0.1))  # type: ignore[method-assign]
    given = {"rounds": 5, "thinker": {"cap_share": 0.25}, "budget": 8}
    records = final_state(tmp_path / "run", rooms, **given)["records"]
    assert [r["method"] for r in records] == ["baseline", *["synthesize"] * 3, *["nothing"] * 2]
    (plan,) = (tmp_path / "run").glob("rounds/04/plan-*/plan.json")
    assert "clips bring nothing: F1 per round of tail classes -0.010" in plan.read_text()


def test_a_last_round_that_forgets_is_not_what_is_tested(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    rooms.bad_rounds = {2}
    found = final_state(tmp_path / "run", rooms, curriculum={"guard": True})
    assert found["test"].startswith("rounds/01/test-")  # type: ignore[union-attr]
    assert found["model"].startswith("rounds/01/retrain-")


def test_copies_are_rolled_back_too(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    rooms.bad_rounds = {1}
    final_state(tmp_path / "run", rooms, planners=["oversample"], curriculum={"guard": True})
    last = read_json(tmp_path / "run" / rooms.training[-1]["repeats"])
    assert sum(last.values()) == 6  # of round 2 alone


def test_without_the_guard_a_bad_round_stands(tmp_path: Path) -> None:
    rooms = FakeRooms(tmp_path / "run")
    rooms.bad_rounds = {1, 2}
    found = final_state(tmp_path / "run", rooms)
    assert not any(r["rolled_back"] for r in found["records"])
    assert all("guard" not in r for r in found["records"])
    assert found["model"].startswith("rounds/02/")
