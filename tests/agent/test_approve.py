"""Plans that wait for the user: the sheet, its faults, and the round that follows it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_cli import run as command
from agent_fakes import FakeRooms, config

from agent.loop import Waiting, run_loop
from agent.runs import row
from agent.stop import Stopped
from training.config import dump_config
from training.errors import DataError
from training.files import read_json
from training.run import read_events

ASKS = {"curriculum": {"approve": True}}


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report takes as long as the rest of a loop of fakes, and is tested elsewhere."""
    monkeypatch.setattr("agent.loop.write_report", lambda *_: None)


GOOD = [{"label": "wheeze", "count": 4, "reason": ""}, {"label": "crackle", "count": 2, "reason": ""}]


def waits(run: Path, *, resume: bool = False, rooms: FakeRooms | None = None, **values: Any) -> FakeRooms:
    rooms = rooms or FakeRooms(run)
    with pytest.raises(Waiting):
        run_loop(config(**ASKS, **values), run, resume, rooms)  # type: ignore[arg-type]
    return rooms


def goes_on(run: Path, **values: Any) -> tuple[dict[str, Any], FakeRooms]:
    rooms = FakeRooms(run)
    return run_loop(config(**ASKS, **values), run, True, rooms), rooms  # type: ignore[arg-type]


def sheet(run: Path, number: int = 1, planner: str = "thinker") -> Path:
    return run / f"rounds/{number:02d}/plan-{planner}.yaml"


def edit(run: Path, items: list[dict[str, Any]], number: int = 1) -> None:
    comments = [line for line in sheet(run, number).read_text().splitlines() if line.startswith("#")]
    sheet(run, number).write_text("\n".join([*comments, yaml.safe_dump({"items": items}, sort_keys=False)]))


def test_nothing_is_generated_before_the_plan_is_approved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    rooms = waits(run)
    assert "generate" not in rooms.calls
    text = sheet(run).read_text()
    assert "# The counts must sum to the budget of 6 clips." in text
    assert "#   wheeze (4, " in text
    assert "# style: own | " in text
    assert sum(item["count"] for item in yaml.safe_load(text)["items"]) == 6
    told = " ".join(capsys.readouterr().err.split())
    assert "plan-thinker.yaml" in told
    assert "resp-agent loop --resume" in told
    assert row(run)["state"] == "waiting for approval"


def test_a_run_whose_plans_are_left_as_they_are_is_one_that_never_asked(tmp_path: Path) -> None:
    plain = run_loop(config(), tmp_path / "plain", rooms=FakeRooms(tmp_path / "plain"))  # type: ignore[arg-type]
    run = tmp_path / "run"
    waits(run)
    waits(run, resume=True)  # round 2 asks as well
    summary, _ = goes_on(run)
    assert summary["results"] == plain["results"]
    approved = [e for e in read_events(run) if e["event"] == "done" and e["node"] == "approve"]
    assert [e["note"] for e in approved] == ["as planned"] * 2


def test_an_edited_plan_is_carried_out_and_marked(tmp_path: Path) -> None:
    run = tmp_path / "run"
    waits(run, rounds=1)
    wanted = [
        {"label": "wheeze", "count": 4, "style": "own", "reason": "mine"},
        {"label": "crackle", "count": 2, "reason": "why not"},
    ]
    edit(run, wanted)
    summary, rooms = goes_on(run, rounds=1)
    record = summary["results"]["planners"]["thinker"]["rounds"][1]
    assert record["planned"] == {"wheeze": 4, "crackle": 2}
    assert record["added"] == {"crackle": 2, "wheeze": 4}
    assert rooms.calls.count("generate") == 2  # probes and clips
    (folder,) = run.glob("rounds/01/approve-*")
    assert read_json(folder / "done.json")["result"]["edited"] is True
    # Later changes of the sheet, and a lost database, change nothing.
    edit(run, [{"label": "normal", "count": 6, "reason": "too late"}])
    (run / "checkpoints.sqlite").unlink()
    again, rooms = goes_on(run, rounds=1)
    assert again["results"] == summary["results"]
    assert rooms.calls == []


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"label": "wheeze", "count": 5, "reason": ""}], r"line \d+, items: .*sum to 5"),
        ([{"label": "snoring", "count": 6, "reason": ""}], r"no class 'snoring' \(line \d+, items\.0\)"),
        ([{"label": "wheeze", "count": 6, "style": "loud", "reason": ""}], r"line \d+, items\.0\.style"),
        ([{"label": "wheeze", "count": -6, "reason": ""}], r"line \d+, items\.0\.count"),
        ([{"label": "wheeze", "count": 6, "colour": "red", "reason": ""}], r"line \d+, items\.0\.colour"),
        ([{"label": "wheeze", "count": 6}], r"line \d+, items\.0\.reason: Field required"),
    ],
)
def test_faulty_edits_are_named_and_lose_nothing(tmp_path: Path, items: Any, message: str) -> None:
    run = tmp_path / "run"
    waits(run, rounds=1)
    good = sheet(run).read_text()
    edit(run, items)
    with pytest.raises(DataError, match=message):
        goes_on(run, rounds=1)
    sheet(run).write_text(good)
    assert goes_on(run, rounds=1)[0]["results"]["planners"]["thinker"]["added"]


def test_the_line_named_is_the_line_of_the_fault(tmp_path: Path) -> None:
    run = tmp_path / "run"
    waits(run, rounds=1)
    sheet(run).write_text(
        "# mine\nitems:\n- label: wheeze\n  count: 3\n  reason: a\n- label: both\n  count: x\n  reason: b\n"
    )
    with pytest.raises(DataError, match=r"plan-thinker\.yaml: line 7, items\.1\.count"):
        goes_on(run, rounds=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("items: [\n  {label: wheeze,\n", r"line \d+: not YAML"),
        ("items:\n- {label: wheeze, count: 3, reason: 2024-13-45}\n", "not YAML"),
        (f"items:\n- {{label: wheeze, count: {'9' * 5000}, reason: a}}\n", "not YAML"),
        ("budget: 9\nitems: []\n", "'items' and nothing else"),
        ("", "'items' and nothing else"),
        ("items: 7\n", r"line 1, items: "),
    ],
)
def test_sheets_that_are_no_plans_are_named(tmp_path: Path, text: str, message: str) -> None:
    run = tmp_path / "run"
    waits(run, rounds=1)
    sheet(run).write_text(text)
    with pytest.raises(DataError, match=message):
        goes_on(run, rounds=1)


def test_a_lost_sheet_is_written_again_and_asked_for_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    waits(run, rounds=1)
    before = sheet(run).read_text()
    sheet(run).unlink()
    waits(run, resume=True, rounds=1)
    assert sheet(run).read_text() == before


def test_a_crash_before_the_user_was_told_is_no_approval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("agent.approval._leave", die)
        run_loop(config(**ASKS), run, rooms=FakeRooms(run))  # type: ignore[arg-type]
    assert sheet(run).is_file()
    waits(run, resume=True)


def test_plans_that_make_no_clips_are_not_asked_about(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run)
    run_loop(config(**ASKS, planners=["none", "oversample"]), run, rooms=rooms)  # type: ignore[arg-type]
    assert not list(run.rglob("plan-*.yaml"))


def test_a_gate_known_to_be_closed_asks_no_more(tmp_path: Path) -> None:
    run = tmp_path / "run"
    waits(run, rooms=FakeRooms(run, skill=0.0))
    rooms = FakeRooms(run, skill=0.0)
    results = run_loop(config(**ASKS), run, True, rooms)["results"]  # type: ignore[arg-type]
    assert [r["fallback"] for r in results["planners"]["thinker"]["rounds"]] == [False, True, True]
    assert not sheet(run, 2).exists()


class Terminal:
    """Keys pressed at the question."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *keys: str):
        self.keys, self.asked = list(keys), 0
        monkeypatch.setattr("agent.approval.sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr("agent.approval.console", self)
        self.is_terminal = True

    def print(self, *_: Any, **__: Any) -> None:
        pass

    def input(self, *_: Any, **__: Any) -> str:
        self.asked += 1
        if not self.keys:
            raise EOFError
        return self.keys.pop(0)


def test_at_a_terminal_enter_goes_on_and_e_edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    tries = iter([[{"label": "wheeze", "count": 60, "reason": ""}], GOOD])
    monkeypatch.setattr("click.edit", lambda filename: edit(run, next(tries)))
    terminal = Terminal(monkeypatch, "e", "", "e", "")  # the first edit is faulty: it is asked again
    summary = run_loop(config(**ASKS, rounds=1), run, rooms=FakeRooms(run))  # type: ignore[arg-type]
    assert summary["results"]["planners"]["thinker"]["rounds"][1]["planned"] == {"wheeze": 4, "crackle": 2}
    assert terminal.asked == 4


def test_at_a_terminal_q_leaves_the_run_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    Terminal(monkeypatch, "q")
    waits(run)
    assert row(run)["state"] == "waiting for approval"
    Terminal(monkeypatch)  # the end of the input is no approval either
    waits(run, resume=True)


def test_a_signal_at_the_question_ends_the_run_and_approves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, rooms = tmp_path / "run", FakeRooms(tmp_path / "run")

    class Asked(Terminal):
        def input(self, *_: Any, **__: Any) -> str:
            os.kill(os.getpid(), signal.SIGTERM)
            return super().input()  # Enter, long after

    Asked(monkeypatch, "")
    with pytest.raises(Stopped):
        run_loop(config(**ASKS, rounds=1), run, rooms=rooms)  # type: ignore[arg-type]
    assert "generate" not in rooms.calls and sheet(run).is_file()
    Terminal(monkeypatch, "")
    assert goes_on(run, rounds=1)[0]["results"]


def test_the_command_waits_with_0_refuses_with_2_and_goes_on_by_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agent.loop.Rooms", lambda config, run: FakeRooms(run))
    dump_config(config(rounds=1), Path("loop.yaml"))
    assert command(monkeypatch, "loop", "--config", "loop.yaml", "--run", "run", "--approve") == 0
    assert "resp-agent loop --resume run" in capsys.readouterr().err
    edit(Path("run"), [{"label": "wheeze", "count": 5, "reason": ""}])
    assert command(monkeypatch, "loop", "--resume", "run") == 2
    assert "items: " in capsys.readouterr().err
    edit(Path("run"), GOOD)
    assert command(monkeypatch, "loop", "--resume", "run") == 0
    assert read_json(Path("run/summary.json"))["results"]["planners"]["thinker"]["added"] == {
        "crackle": 2,
        "wheeze": 4,
    }
    assert command(monkeypatch, "loop", "run") == 2
    assert command(monkeypatch, "loop", "--resume", "nowhere") == 2
    assert "there is no run to resume" in capsys.readouterr().err
