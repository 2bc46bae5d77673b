"""What a loop survives: kills, signals, full disks, damaged databases, a second process."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import FakeRooms, config

import training.files
from agent.child import run_command
from agent.graph import DATABASE
from agent.loop import run_loop
from agent.stop import Stopped, stoppable
from training.errors import RespError, RunError
from training.files import read_json
from training.run import read_events

HERE = Path(__file__).parent
KILLS = 20


@pytest.fixture(autouse=True)
def _no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report takes as long as the rest of a loop of fakes, and is tested elsewhere."""
    monkeypatch.setattr("agent.loop.write_report", lambda *_: None)


class Loops:
    """Loops as processes, forked by one that has imported everything (see ``durability_loop.py``)."""

    def __init__(self, folder: Path):
        environment = {**os.environ, "PYTHONPATH": f"{HERE.parent.parent}{os.pathsep}{HERE}"}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "durability_loop.py"), "--serve"],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=(folder / "stderr").open("wb"), text=True,
        )  # fmt: skip
        self.folder = folder

    def start(self, *arguments: str) -> int:
        """Start a loop; its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(arguments) + "\n")
        self.process.stdin.flush()
        return int(self._line("pid "))

    def ended(self) -> int:
        """Wait for it; its exit code, or minus the signal that killed it."""
        return int(self._line("ended "))

    def _line(self, head: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(head):
                return line.removeprefix(head)
        raise AssertionError((self.folder / "stderr").read_text()[-3000:])

    def said(self) -> str:
        return " ".join((self.folder / "stderr").read_text().split())


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loops]:
    found = Loops(tmp_path_factory.mktemp("loops"))
    yield found
    assert found.process.stdin is not None
    found.process.stdin.close()
    found.process.wait()


def until(condition: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def begun(run: Path, node: str) -> bool:
    return any(e["event"] == "start" and e["node"] == node for e in read_events(run))


def results(run: Path) -> dict[str, Any]:
    return read_json(run / "summary.json")["results"]


def small(
    run: Path, *, resume: bool = False, rooms: FakeRooms | None = None, **values: Any
) -> dict[str, Any]:
    settings = config(rounds=1, **values)
    return run_loop(settings, run, resume, rooms or FakeRooms(run))  # type: ignore[arg-type,return-value]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = tmp_path_factory.mktemp("whole") / "run"
    return small(run)["results"]


@pytest.mark.slow
def test_twenty_random_kills_each_resumed_to_identical_results(loops: Loops) -> None:
    """SIGKILL at a random time of a real process; every run is resumed until it ends."""
    loops.start("undisturbed")
    began = time.monotonic()
    assert loops.ended() == 0
    length = time.monotonic() - began
    wanted = json.dumps(results(loops.folder / "undisturbed"), sort_keys=True)
    draw, hit = random.Random(7), []
    for number in range(3 * KILLS):
        if len(hit) == KILLS:
            break
        run = loops.folder / f"killed-{number}"
        process = loops.start(run.name)
        time.sleep(draw.uniform(0, length))
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        if loops.ended() == 0:  # it was quicker this time
            continue
        hit.append(
            read_events(run)[-1].get("node", "begin") if read_events(run) else "before the first event"
        )
        loops.start(run.name, "--resume") if run.is_dir() else loops.start(run.name)
        assert loops.ended() == 0, loops.said()[-3000:]
        assert json.dumps(results(run), sort_keys=True) == wanted, hit
        assert not list((run / "rounds").rglob("*.tmp"))
    assert len(hit) == KILLS, "too few kills hit a living process"
    assert len(set(hit)) >= 4, hit  # in different places


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_and_says_how_to_go_on(loops: Loops, number: int, code: int) -> None:
    run = loops.folder / f"signal-{number}"
    process = loops.start(run.name, "--slow", "score")
    until(lambda: begun(run, "validate"))
    os.kill(process, number)
    assert loops.ended() == code
    events = read_events(run)
    assert [e["event"] for e in events[-2:]] == ["done", "stopped"]
    assert events[-2]["node"] == "validate"
    assert f"resp-agent loop --resume {run.name}" in loops.said()
    loops.start(run.name, "--resume")
    assert loops.ended() == 0
    after = [e["node"] for e in read_events(run)[len(events) :] if e["event"] == "done"]
    assert after[0] == "diagnose"  # the finished step is not repeated


def test_a_second_signal_ends_at_once(loops: Loops) -> None:
    run = loops.folder / "twice"
    process = loops.start(run.name, "--slow", "score")
    until(lambda: begun(run, "validate"))
    os.kill(process, signal.SIGTERM)
    time.sleep(0.2)
    os.kill(process, signal.SIGTERM)
    assert loops.ended() == 143
    assert [e["event"] for e in read_events(run)[-2:]] == ["start", "stopped"]
    assert not list((run / "rounds").rglob("*.tmp"))


def test_a_training_is_stopped_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child may take hours; whoever sends SIGTERM waits for seconds."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho $$ > pid.tmp\nmv pid.tmp pid\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr("agent.child.sys.executable", str(script))
    sender = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            f"until [ -f {tmp_path}/pid ]; do sleep 0.01; done; kill -TERM {os.getpid()}",
        ]
    )
    began = time.monotonic()
    with pytest.raises(Stopped) as stop, stoppable():
        run_command(["train", "diagnoser"], cwd=tmp_path, log=tmp_path / "log", threads=1)
    sender.wait()
    assert time.monotonic() - began < 30
    assert (stop.value.code, stop.value.signal) == (143, "SIGTERM")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_signal_that_came_before_the_training_starts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.child.sys.executable", "/bin/sleep")
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell started the tests in the background
    with pytest.raises(Stopped), stoppable():
        os.kill(os.getpid(), signal.SIGINT)
        run_command(["60"], cwd=tmp_path, log=tmp_path / "log", threads=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_process_is_told_who_holds_the_run(loops: Loops) -> None:
    run = loops.folder / "shared"
    process = loops.start(run.name, "--slow", "score")
    until(lambda: begun(run, "validate"))
    with pytest.raises(RunError, match=rf"in use by another process \(pid {process}\)"):
        small(run, resume=True)
    os.kill(process, signal.SIGKILL)
    loops.ended()
    with pytest.raises(RunError, match="another config"):  # the lock is free again
        small(run, resume=True)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "not a database":
        path.write_bytes(b"\x00\x13garbage" * 1000)
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "overwritten":
        path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))
    else:  # a checkpoint whose content is broken in a database that is not
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE checkpoints SET checkpoint = x'c1c1c1'")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["not a database", "cut", "overwritten", "content"])
def test_a_damaged_database_names_the_cure_and_the_cure_works(
    tmp_path: Path, whole: dict[str, Any], how: str
) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run)
    rooms.fail_at = "evaluate"
    with pytest.raises(KeyboardInterrupt):
        small(run, rooms=rooms)
    damage(run / DATABASE, how)
    with pytest.raises(RunError, match=f"is damaged.*delete {DATABASE} and use --resume") as refusal:
        small(run, resume=True)
    assert refusal.value.path == str(run / DATABASE)
    (run / DATABASE).unlink()
    again = FakeRooms(run)
    assert small(run, resume=True, rooms=again)["results"] == whole
    assert again.calls == ["evaluate"]  # the one step that was not finished


class Full:
    """A disk that is full from the n-th write on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int):
        self.room, self.write = room, training.files.write_bytes
        monkeypatch.setattr("training.files.write_bytes", self)

    def __call__(self, path: Path, data: bytes) -> None:
        self.room -= 1
        if self.room < 0:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", self.refuse)
                self.write(path, data)
        self.write(path, data)

    @staticmethod
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("room", [1, 9, 17, 23])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any], room: int
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as refusal:
        Full(patch, room)
        small(run)
    assert Path(refusal.value.filename).is_relative_to(run)  # the user is told which disk
    assert not list(run.rglob("*.tmp"))
    assert all((p / "done.json").is_file() for p in run.glob("rounds/*/*-*") if p.is_dir())
    assert small(run, resume=(run / "config.yaml").is_file())["results"] == whole


@pytest.mark.slow
def test_a_really_full_disk(tmp_path: Path, whole: dict[str, Any]) -> None:
    """A file system of its own: whatever writes, database and audio included, meets the end of it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount")
    try:
        run, refusals = disk / "run", 0
        for kilobytes in range(300, 6000, 300):
            subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", disk], check=True)
            try:
                small(run, resume=(run / "config.yaml").is_file())
                break
            except (OSError, RespError):  # what the command ends with 2 for
                refusals += 1
        assert refusals >= 3
        assert small(run, resume=True)["results"] == whole
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_database_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langgraph.checkpoint.sqlite import SqliteSaver

    def full(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteSaver, "put", full)
    with pytest.raises(RunError, match=r"checkpoints\.sqlite: cannot be used \(database or disk is full\)"):
        small(tmp_path / "run")


@pytest.mark.parametrize("good", range(1, 13, 3))
def test_a_step_whose_writes_were_saved_and_its_checkpoint_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any], good: int
) -> None:
    """There LangGraph names no next step, as if the thread were at its end."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    put, left = SqliteSaver.put, iter([True] * good)

    def full(*arguments: Any, **more: Any) -> Any:
        if next(left, False):
            return put(*arguments, **more)
        raise sqlite3.OperationalError("database or disk is full")

    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(RunError, match="disk is full"):
        patch.setattr(SqliteSaver, "put", full)
        small(run)
    assert small(run, resume=True)["results"] == whole


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent_cli import run as command

    place = tmp_path / "mine"
    place.mkdir(mode=0o555)
    if os.access(place, os.W_OK):  # root may write anywhere: take a place where nobody may
        place = Path("/proc")
    assert command(monkeypatch, "loop", "--run", str(place / "run")) == 2
    told = capsys.readouterr().err
    assert f"{place}/run" in told.replace("\n", "")
    assert "→" in told
