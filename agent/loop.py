"""The curriculum loop from config to report: lock the run, run every planner's thread, sum up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from agent.approval import Waiting, resume_line
from agent.config import LoopConfig
from agent.figures import SCORES
from agent.graph import checkpoints, run_planner
from agent.report import write_report
from agent.rooms import UPPER_BOUND, Rooms
from agent.state import LoopState
from agent.stop import Stopped, stoppable
from agent.summary import environment, make_results, timings
from agent.work import Work
from training.errors import RespError, RunError
from training.files import read_json, write_json
from training.progress import console
from training.run import Run, open_run

__all__ = ["Waiting", "run_loop"]

NARROW = 3  # figures per row that fit 80 columns with their intervals; the report has them all


def run_loop(
    config: LoopConfig, run: Path, resume: bool = False, rooms: Rooms | None = None
) -> dict[str, Any]:
    """Run the loop for every planner of the config.

    Args:
        config: of the loop.
        run: the run folder; new, or an interrupted run with ``resume``.
        resume: go on where the last process stopped.
        rooms: stands in for the other packages (tests).

    Returns:
        what ``summary.json`` holds; its ``results`` block depends on config, weights and data only.

    Raises:
        RunError: the folder is in use, holds a run already, or belongs to another config.
        DataError: a split is empty or a class cannot be planned for.
        CheckpointError: weights are missing or do not fit.
        Waiting: a plan waits for the user's approval (``curriculum.approve``).
        Stopped: the process was asked to end; the step under way was finished.
    """
    with open_run(run, config, resume=resume) as opened, stoppable(), said(opened):
        work = Work(opened, config, rooms or Rooms(config, run))
        check_weights(work)
        opened.event("resume" if resume else "begin", name=config.name)
        console.print(
            f"[bold]{config.name}[/]: {config.task}, {config.rounds} × {config.budget} clips, "
            f"planners {', '.join(config.planners)} → {run}",
            highlight=False,
        )
        if work.rooms.upper_bound:
            console.print(f"[yellow]{UPPER_BOUND}[/]: clips come from the simulator that made the corpus")
        began = time.monotonic()
        states: dict[str, LoopState] = {}
        with checkpoints(run) as saver:
            for planner in config.planners:
                states[planner] = run_planner(work, saver, planner)
        summary = finish(work, states)
        opened.event("end", seconds=round(time.monotonic() - began, 3))
        show(summary["results"], opened)
    return summary


@contextmanager
def said(run: Run) -> Iterator[None]:
    """Note why the block ended early, and say how to go on."""
    try:
        yield
    except Stopped as stop:
        run.event("stopped", signal=stop.signal)
        console.print(
            f"stopped by {stop.signal}; go on with: {resume_line(run.folder)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise
    except RespError as error:
        run.event("failed", error=error.message)
        raise


def check_weights(work: Work) -> None:
    """Note the weights of a new run; refuse to go on with others, which would mix two runs in one.

    Raises:
        RunError: the weights are not those that the run began with.
    """
    path, wanted = work.path("weights.json"), {"digest": work.rooms.weights_digest()}
    if not path.is_file():
        write_json(path, wanted)
    elif read_json(path) != wanted:
        names = [name for name in (work.config.weights, work.config.beats.weights) if name is not None]
        raise RunError(
            "was begun with other weights",
            path=work.run.folder,
            cure=f"put the old {' and '.join(names)} back, or choose another --run",
        )


def finish(work: Work, states: dict[str, LoopState]) -> dict[str, Any]:
    """Write ``summary.json`` and ``report.html``."""
    results = make_results(work, states)
    best = max(states, key=lambda p: (states[p]["scores"][-1]["macro_f1"], p))
    summary = {
        "results": results,
        "diagnoser": states[best]["model"],  # of the planner that is best on the plan split
        "environment": environment(),
        "timings": timings(work.run.events()),
        "limits": "research only, not a medical device",
    }
    write_json(work.path("summary.json"), summary)
    write_report(work, states, summary, work.path("report.html"))
    return summary


def show(results: dict[str, Any], run: Run) -> None:
    """Print the table of results and where the report lies."""
    title = "test split, scored once" + (f" · {UPPER_BOUND}" if results["upper_bound"] else "")
    shown = [c for c in SCORES if any(c in p["test"]["metrics"] for p in results["planners"].values())]
    table = Table("planner", *[c.replace("_", " ") for c in shown], title=title)
    for planner, record in results["planners"].items():
        cells = []
        for name in shown:
            value = record["test"]["metrics"].get(name)
            cells.append("–" if value is None else _cell(value, brief=len(shown) > NARROW))
        table.add_row(planner, *cells)
    prior = next(iter(results["planners"].values()))["test"]["prior"]
    table.add_row("source prior", *[f"{prior[c]:.3f}" if c in prior else "–" for c in shown], style="dim")
    console.print(table)
    gate = results["gate"]
    if gate is not None:
        word = "open" if gate["open"] else "closed, the budget went to oversample"
        console.print(f"gate {word}: {gate['reason']}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"report: {run.folder / 'report.html'}", highlight=False, soft_wrap=True)


def _cell(figure: dict[str, float | None], *, brief: bool) -> str:
    """A figure with its interval, or alone where all of them would not fit a terminal."""
    if brief or figure.get("low") is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]".replace("[", r"\[")
