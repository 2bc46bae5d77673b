"""``report.html``: one self-contained page that tells what a run did and found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.nodes.prepare import read_screen
from agent.pages import render_page
from agent.reporting.listen import SECONDS, listen
from agent.reporting.plots import change_plot, confusion_plot, counts_plot, rounds_plot
from agent.reporting.story import METRICS, screened, tell
from agent.rooms import UPPER_BOUND
from agent.state import LoopState
from agent.work import Work
from training.files import write_text


def write_report(work: Work, states: dict[str, LoopState], summary: dict[str, Any], path: Path) -> None:
    """Write the page of a finished run."""
    write_text(path, render(summary, gather(work, states, summary["results"])))


def gather(work: Work, states: dict[str, LoopState], results: dict[str, Any]) -> dict[str, Any]:
    """What the page shows apart from the summary: story, plots and clips."""
    gate = next((s["gate"] for s in states.values() if s["gate"]), None)
    probed = gate is not None and (work.path(gate) / "screened" / "screen.json").is_file()
    return {
        "story": tell(work, states, results),
        "probes": screened(read_screen(work, f"{gate}/screened").model_dump()) if probed else None,
        "rounds_plot": rounds_plot(states),
        "plots": {
            name: [p for p in (change_plot(state), counts_plot(state, results["train"])) if p is not None]
            for name, state in states.items()
        },
        "confusions": {
            name: confusion_plot(name, record["test"]["confusion"], record["test"]["classes"])
            for name, record in results["planners"].items()
        },
        "sounds": listen(work, states),
        "real": work.config.corpus.kind != "simulated",
    }


def render(summary: dict[str, Any], told: dict[str, Any]) -> str:
    """HTML of a summary and what :func:`gather` found. Every name from data is escaped."""
    results = summary["results"]
    tests = {name: record["test"] for name, record in results["planners"].items()}
    used = [m for m in METRICS if any(m in t["metrics"] for t in tests.values())]
    return render_page(
        "report.html",
        r=results,
        summary=summary,
        upper_bound=UPPER_BOUND if results["upper_bound"] else None,
        metrics={m: METRICS[m] for m in used},
        tests=tests,
        prior=next(iter(tests.values()))["prior"],
        classes=[name for name, count in results["train"].items() if count],
        seconds=SECONDS,
        **told,
    )
