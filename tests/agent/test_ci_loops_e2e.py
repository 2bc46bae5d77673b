"""The two short presets with the shipped weights: a closed gate, and the simulator as an upper bound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from headless import SOUNDS, browser

from agent.rooms import UPPER_BOUND
from resp229k.corpus import Corpus
from training.files import read_json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def run_preset(name: str, folder: Path, *changes: str) -> tuple[dict[str, Any], str]:
    command = [sys.executable, "-m", "agent.cli", "loop", "--config", name, "--run", "run"]
    command += [part for change in changes for part in ("-o", change)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return read_json(folder / "run" / "summary.json")["results"], " ".join(done.stderr.split())


def test_closed_gate_falls_back_and_says_so(tmp_path: Path) -> None:
    results, console = run_preset("ci-gate", tmp_path)
    record = results["planners"]["thinker"]["rounds"][1]
    assert results["gate"]["open"] is False
    assert record["fallback"]
    assert record["method"] == "duplicate"
    assert sum(record["added"].values()) == results["budget"]
    assert "oversample instead of thinker" in console
    assert "Gate closed." in (tmp_path / "run" / "report.html").read_text()
    # The generator was heard all the same: its probe clips are written and screened.
    (screened,) = (tmp_path / "run").glob("rounds/00/gate-*/screened/screen.json")
    assert read_json(screened)["verdicts"]
    assert not list((tmp_path / "run").glob("rounds/*/synthesize-*"))


def test_simulator_backend_synthesizes_screens_and_retrains(tmp_path: Path) -> None:
    results, console = run_preset("ci-simulator", tmp_path, "planners=[restyle, thinker]")
    assert results["planners"]["restyle"]["rounds"][1]["method"] == "restyle"
    record = results["planners"]["thinker"]["rounds"][1]
    assert results["gate"]["open"] is True
    assert record["method"] == "synthesize"
    assert record["planned"]
    assert all(record["added"].get(name, 0) >= 1 for name in record["planned"])
    assert results["upper_bound"] == UPPER_BOUND
    assert UPPER_BOUND in console
    assert UPPER_BOUND in (tmp_path / "run" / "report.html").read_text()
    kept = [Corpus.open(path).clips for path in (tmp_path / "run").glob("rounds/01/screen-*/corpus")]
    assert len(kept) == 2
    assert {clip.source for clips in kept for clip in clips} >= {UPPER_BOUND}
    look_at(tmp_path / "run" / "report.html", tmp_path)


def look_at(page: Path, folder: Path) -> None:
    """The report of a run as a reader sees it: on a phone too, everything loads, and nothing from elsewhere."""
    with browser(folder) as tab:
        tab.size(390)
        tab.open(page)
        tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.run("document.documentElement.scrollWidth") <= 390
        pictures = tab.run("[...document.images].map(i => i.complete && i.naturalWidth > 0)")
        lengths = tab.run(SOUNDS)
        assert len(pictures) > 4 and set(pictures) == {True}
        assert len(lengths) > 4 and all(
            isinstance(length, float | int) and 0 < length < 60 for length in lengths
        )
        assert tab.complaints() == [] and tab.requests() == []


def test_hard_clips_of_the_generator_are_screened_and_what_they_bring_is_measured(tmp_path: Path) -> None:
    changes = (
        "gate.ratio=0",
        "gate.probe=1",
        "diagnoser.fit.steps=10",
        "thinker.pick=hard",
        "budget=6",
        "rounds=2",
    )
    results, _ = run_preset("ci-gate", tmp_path, *changes)
    run = tmp_path / "run"
    thought = results["planners"]["thinker"]["rounds"]
    assert thought[1]["method"] == "synthesize"
    assert {item["pick"] for item in thought[1]["items"]} == {"hard"}
    verdicts = [v for path in run.glob("rounds/01/screen-*/screen.json") for v in read_json(path)["verdicts"]]
    assert len(verdicts) == 4 * 6
    losses = [v["loss"] for v in verdicts if v["loss"] is not None]  # of those that are usable and on class
    assert losses
    assert all(loss >= 0 for loss in losses)
    # What the first round's clips brought stands before the second plan, with its error.
    requests = [read_json(path)["request"] for path in run.glob("rounds/02/plan-*/inputs.json")]
    told = {c["label"]: c for request in requests for c in request["classes"] if c["gains"]}
    assert set(told) & set(thought[1]["added"])
    assert all(error > 0 for c in told.values() for error in c["gain_errors"])
