"""Whole loops from the command line with untrained weights: killed, resumed, repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from agent_weights import make_weights

from resp229k.audio import is_tagged_synthetic
from resp229k.corpus import Corpus
from training.files import read_json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# The gate is switched off: untrained weights would keep it closed, and synthesis is what is tested.
CONFIG = """
name: e2e
task: disease16
rounds: 1
budget: 8
planners: [thinker]
corpus:
  kind: simulated
  simulate:
    classes: [Control, Asthma, COPD, Pneumonia, Bronchiolitis, Pulmonary Fibrosis]
    seed: 3
    head: 8
    tail: 3
    select: 3
    plan: 3
    test: 3
    workers: 1
weights: ${RESP_TEST_WEIGHTS}
diagnoser:
  fit: {steps: 4, batch_size: 8, learning_rate: 1.0e-3, eval_every: 2}
generator: {backend: neural, sample: {steps: 1, method: euler}}
gate: {ratio: 0, probe: 1}
threads: 1
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loops")
    make_weights(folder)
    (folder / "loop.yaml").write_text(CONFIG)
    return folder


def start(home: Path, run: str, *options: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "RESP_TEST_WEIGHTS": str(home / "weights"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "agent.cli", "loop", "--config", "loop.yaml", "--run", run, *options]
    with (home / f"{run}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log)


def finish(home: Path, run: str, *options: str) -> dict[str, Any]:
    assert start(home, run, *options).wait() == 0, (home / f"{run}.log").read_text()[-3000:]
    return read_json(home / run / "summary.json")


@pytest.fixture(scope="module")
def whole(home: Path) -> dict[str, Any]:
    """The results of a run that nobody disturbed."""
    return finish(home, "whole")["results"]


def kill_during(home: Path, run: str, node: str) -> None:
    """SIGKILL the loop as soon as a node's temporary folder stands; the trainer must die with it."""
    process = start(home, run)
    deadline = time.monotonic() + 300
    while not list((home / run).glob(f"rounds/{node}-*.tmp")):
        assert process.poll() is None, (home / f"{run}.log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(1.0)  # well inside the node
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (home / run / "summary.json").exists()
    time.sleep(0.5)
    assert not _trainers(home / run)


def _trainers(run: Path) -> list[str]:
    """Processes that still work in the run folder (Linux)."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.resolve() == run.resolve():
                found.append(link.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("node", ["01/synthesize", "01/retrain"])
def test_killed_and_resumed_gives_the_same_results(home: Path, whole: dict[str, Any], node: str) -> None:
    run = f"killed-{node.replace('/', '-')}"
    kill_during(home, run, node)
    assert finish(home, run, "--resume")["results"] == whole


def test_equal_seeds_give_equal_results_and_a_second_resume_does_nothing(
    home: Path, whole: dict[str, Any]
) -> None:
    assert finish(home, "again")["results"] == whole
    before = {p: p.stat().st_mtime_ns for p in (home / "again" / "rounds").rglob("*")}
    assert finish(home, "again", "--resume")["results"] == whole
    assert {p: p.stat().st_mtime_ns for p in (home / "again" / "rounds").rglob("*")} == before


def test_real_generator_output_is_kept_screened_and_trained_on(home: Path, whole: dict[str, Any]) -> None:
    run = home / "whole"
    record = whole["planners"]["thinker"]["rounds"][1]
    assert record["method"] == "synthesize"
    assert record["gate"] == "open"
    (candidates,) = run.glob("rounds/01/synthesize-*/corpus")
    clips = Corpus.open(candidates).clips
    assert len(clips) > 8
    for clip in clips:
        path = candidates / clip.path
        assert is_tagged_synthetic(path)
        facts = read_json(path.with_suffix(".json"))
        assert facts["backend"] == "neural"
        assert clip.subject_id == facts["reference_subject"]
    assert list(run.glob("rounds/00/gate-*/probe/audio/*.wav"))
    (screened,) = run.glob("rounds/01/screen-*")
    kept = Corpus.open(screened / "corpus").clips
    assert sum(record["added"].values()) == len(kept) > 0
    for clip in kept:
        beside = [(folder / clip.path).with_suffix(".json") for folder in (screened / "corpus", candidates)]
        assert read_json(beside[0]) == read_json(beside[1])
    (training,) = run.glob("rounds/01/retrain-*/model/metrics.json")
    assert sum(read_json(training)["training_clips"].values()) == sum(whole["train"].values()) + len(kept)


def test_the_run_holds_no_absolute_path_and_can_be_moved(home: Path, whole: dict[str, Any]) -> None:
    run = home / "whole"
    for path in run.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".jsonl", ".yaml", ".html", ".sqlite", ".parquet"}:
            assert str(home).encode() not in path.read_bytes(), path
    (home / "whole").rename(home / "moved")
    try:
        assert finish(home, "moved", "--resume")["results"] == whole
    finally:
        (home / "moved").rename(home / "whole")


def test_bad_runs_exit_with_two_and_the_cure(home: Path, whole: dict[str, Any]) -> None:
    assert start(home, "whole").wait() == 2
    assert "--resume" in (home / "whole.log").read_text()
    assert start(home, "whole", "--resume", "-o", "budget=9").wait() == 2
    assert "another config (differs in: budget)" in (home / "whole.log").read_text().replace("\n", " ")


def test_events_tell_the_story(home: Path, whole: dict[str, Any]) -> None:
    events = [json.loads(line) for line in (home / "whole" / "events.jsonl").read_text().splitlines()]
    done = [e["node"] for e in events if e["event"] == "done"]
    order = ["prepare", "retrain", "validate", "diagnose", "plan", "gate", "synthesize", "screen"]
    assert done == [*order, "retrain", "validate", "test"]
