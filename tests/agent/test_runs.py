"""``resp-agent runs``: what it says of whole, broken and foreign folders."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_cli import run as command
from agent_fakes import FakeRooms, config

from agent.loop import Waiting, run_loop
from agent.runs import diff_runs, flatten, list_runs, row, show_run
from training.errors import RunError
from training.run import open_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run, one that waits, one interrupted, and strangers beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.loop.write_report", lambda *_: None)
        yield fill(tmp_path_factory.mktemp("runs"))


def fill(folder: Path) -> Path:
    run_loop(config(rounds=1), folder / "whole", rooms=FakeRooms(folder / "whole"))  # type: ignore[arg-type]
    run_loop(
        config(rounds=1, budget=4, planners=["thinker", "none"]),
        folder / "smaller",
        rooms=FakeRooms(folder / "smaller"),  # type: ignore[arg-type]
    )
    with pytest.raises(Waiting):
        settings = config(rounds=1, curriculum={"approve": True})
        run_loop(settings, folder / "waits", rooms=FakeRooms(folder / "waits"))  # type: ignore[arg-type]
    rooms = FakeRooms(folder / "broken-off")
    rooms.fail_at = "score"
    with pytest.raises(KeyboardInterrupt):
        run_loop(config(), folder / "broken-off", rooms=rooms)  # type: ignore[arg-type]
    (folder / "foreign").mkdir()
    (folder / "foreign" / "notes.txt").write_text("mine")
    for name, text in (
        ("no-yaml", "a: [\n"),
        ("other-config", "steps: 3\n"),
        ("odd-config", "planners: [thinker]\nrounds: many\n"),
        ("no-rounds", "planners: [thinker]\nrounds: null\n"),
        ("odd-planners", "planners: [3]\nrounds: 2\n"),
    ):
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text(text)
    for name, text in (
        ("no-json", "{"),
        ("list", "[]"),
        ("hollow", '{"results": {"planners": {"x": 3}}}'),
    ):
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text((folder / "whole" / "config.yaml").read_text())
        (folder / name / "summary.json").write_text(text)
        (folder / name / "events.jsonl").write_text('{"event": "end"}\n7\n{"ev')
    (folder / "file.txt").write_text("not a folder")
    return folder


def test_states(runs: Path) -> None:
    states = {found["run"]: found["state"] for found in list_runs(runs)}
    assert states.pop("hollow").startswith("broken (")
    assert states == {
        "whole": "finished",
        "smaller": "finished",
        "waits": "waiting for approval",
        "broken-off": "interrupted",
        "foreign": "no run",
        "no-yaml": "broken (config.yaml is not YAML)",
        "other-config": "no run of the loop",
        **dict.fromkeys(
            ("odd-config", "no-rounds", "odd-planners"),
            "broken (config.yaml names no planners, or no number of rounds)",
        ),
        "no-json": "broken (summary.json is not JSON)",
        "list": "broken (summary.json holds no results)",
    }


def test_why_a_run_broke_off_is_one_line(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", config()) as run:
        run.event("failed", error="`resp-agent train` ended with 1:\nTraceback\nlast line")
    assert row(tmp_path / "run")["state"] == "interrupted (`resp-agent train` ended with 1:)"


def test_events_with_rare_line_breaks_are_kept(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", config()) as run:
        run.event("done", note="a\u2028b\x85c")
        assert [event["note"] for event in run.events()] == ["a\u2028b\x85c"]


def test_who_looks_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", config()):
        pass
    with (tmp_path / "run" / ".lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with open_run(tmp_path / "run", config(), resume=True):
            pass


def test_a_run_in_use_is_running_and_stays_in_use(tmp_path: Path) -> None:
    settings = config()
    with open_run(tmp_path / "run", settings):
        assert row(tmp_path / "run")["state"] == "running"
    assert row(tmp_path / "run")["state"] == "interrupted"
    with open_run(tmp_path / "run", settings, resume=True):  # looking took no lock
        pass


def test_a_row_counts_rounds_bytes_and_the_best_planner(runs: Path) -> None:
    found = row(runs / "smaller")
    assert found["closed"] == {"thinker": 1, "none": 1}
    assert (found["rounds"], found["planners"]) == (1, ["thinker", "none"])
    assert found["best"] == {"planner": "thinker", "macro_f1": 0.6, "tail_macro_f1": 0.4}
    assert found["bytes"] == sum(p.stat().st_size for p in (runs / "smaller").rglob("*") if p.is_file())
    assert time.time() - found["last"] < 600
    assert row(runs / "broken-off")["closed"] == {}
    assert row(runs / "waits")["best"] is None


def test_show_holds_the_rounds(runs: Path) -> None:
    found = show_run(runs / "whole")
    rounds = found["results"]["planners"]["thinker"]["rounds"]
    assert [r["method"] for r in rounds] == ["baseline", "synthesize"]
    assert found["steps"][0]["node"] == "prepare"
    assert show_run(runs / "waits")["results"] is None
    with pytest.raises(RunError, match=r"foreign: no run → give"):
        show_run(runs / "foreign")


def test_diff_names_keys_and_pairs_figures(runs: Path) -> None:
    found = diff_runs(runs / "whole", runs / "smaller")
    assert found["config"] == {"budget": [6, 4], "planners": [["thinker"], ["thinker", "none"]]}
    assert found["figures"]["thinker"]["macro_f1"] == [0.6, 0.6]
    assert found["figures"]["none"]["macro_f1"] == [None, 0.6]
    assert diff_runs(runs / "whole", runs / "whole")["config"] == {}
    assert diff_runs(runs / "whole", runs / "waits")["config"] == {"curriculum.approve": [False, True]}


def test_a_key_that_only_one_run_has_is_a_difference() -> None:
    assert flatten({"a": {"b": 1, "c": []}, "d": {}}) == {"a.b": 1, "a.c": [], "d": {}}


@pytest.mark.parametrize("name", ["list", "show", "diff"])
def test_the_commands_print_tables_and_json(
    runs: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"list": [runs], "show": [runs / "whole"], "diff": [runs / "whole", runs / "smaller"]}[name]
    words = [str(argument) for argument in arguments]
    assert command(monkeypatch, "runs", name, *words, "--json") == 0
    assert json.loads(capsys.readouterr().out)
    assert command(monkeypatch, "runs", name, *words, "--markdown") == 0
    shown = capsys.readouterr().out
    wanted: dict[str, Any] = {
        "list": "| foreign | no run |",
        "show": "| thinker | 1 | synthesize |",
        "diff": "| budget | 6 | 4 |",
    }
    assert wanted[name] in shown


def test_show_of_an_unfinished_run_lists_its_steps(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "runs", "show", str(runs / "waits"), "--markdown") == 0
    shown = capsys.readouterr().out
    assert "waiting for approval" in shown
    assert "| thinker | 1 | plan |" in shown


def test_folders_that_are_not_there_exit_with_2(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "runs", "list", str(runs / "nowhere")) == 2
    assert command(monkeypatch, "runs", "show", str(runs / "foreign")) == 2
    assert command(monkeypatch, "runs", "diff", str(runs / "whole"), str(runs / "no-json")) == 2
    assert "broken (summary.json is not JSON)" in capsys.readouterr().err
