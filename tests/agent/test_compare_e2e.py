"""A comparison from the command line with the shipped weights: killed, run again, run once more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.rooms import UPPER_BOUND
from training.files import read_json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SMALL = [
    "corpus.simulate.head=10",
    "corpus.simulate.workers=1",
    "corpus.simulate.plan=4",
    "corpus.simulate.test=3",
    "diagnoser.fit={steps: 6, batch_size: 8, learning_rate: 2.0e-3, eval_every: 3}",
    "gate={ratio: 0, probe: 1}",
    "threads=1",
]
COMMAND = ["compare", "--config", "ci-simulator", "--planners", "fill", "--seeds", "1", "--budget", "8"]
SEED = ["--first-seed", "115"]
ENDING = ["--work", "work", "--out", "out", "--json", *(word for text in SMALL for word in ("-o", text))]


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agent.cli", *COMMAND, *SEED, *ENDING]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_killed_and_run_again_then_kept(tmp_path: Path) -> None:
    process = start(tmp_path)
    deadline = time.monotonic() + 600
    while not list(tmp_path.glob("work/sim-115-*/rounds/01/retrain-*.tmp")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out").exists()

    text, said = finish(tmp_path)
    lines = [json.loads(line) for line in text.splitlines()]
    assert {one["row"] for one in lines} == {
        n + w for n in ("none", "oversample", "fill") for w in ("", " +w")
    }
    assert all(len(one["values"]) == 1 for one in lines)
    assert "6 of 6: fill +w, seed 115" in said
    whole = read_json(tmp_path / "out" / "compare.json")
    rows = whole["results"]["rows"]
    assert rows["fill"]["efficiency"][1]["clips"]["mean"] > 0
    assert rows["fill"]["clips"]["mean"] <= rows["oversample"]["clips"]["mean"] == 8
    text = (tmp_path / "out" / "compare.md").read_text()
    assert UPPER_BOUND in text
    assert len(list(tmp_path.glob("work/sim-*/rounds/00/gate-*"))) == 1  # for both ways of sampling
    for suffix in ("png", "svg"):
        assert (tmp_path / "out" / f"compare.{suffix}").stat().st_size > 10_000

    _, said = finish(tmp_path)
    again = read_json(tmp_path / "out" / "compare.json")
    assert again["results"] == whole["results"]
    assert all(one["kept"] for one in again["timings"]["loops"])


def finish(folder: Path) -> tuple[str, str]:
    process = start(folder)
    text, said = process.communicate()
    assert process.returncode == 0, said[-3000:]
    return text, said
