"""``report.html``: one self-contained page of what a run did and found."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from agent.figures import SCORES
from agent.nodes.synthesize import read_screen
from agent.rooms import UPPER_BOUND
from agent.state import LoopState
from agent.work import Work
from resp229k.corpus import Corpus
from training.files import write_text

TEMPLATES = Path(__file__).resolve().parent / "templates"
TITLES = ("Macro-F1", "Tail macro-F1", "Accuracy", "Sp", "Se", "Score")
METRICS = dict(zip(SCORES, TITLES, strict=True))


def write_report(work: Work, states: dict[str, LoopState], summary: dict[str, Any], path: Path) -> None:
    """Render the page from the summary and the run's screen reports."""
    write_text(path, render(summary, screens(work, states), probes(work, states)))


def render(
    summary: dict[str, Any], screened: list[dict[str, Any]], probed: Mapping[str, str] | None = None
) -> str:
    """HTML of a summary. Every name from data is escaped."""
    results = summary["results"]
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    tests = {name: record["test"] for name, record in results["planners"].items()}
    used = [m for m in METRICS if any(m in t["metrics"] for t in tests.values())]
    return pages.get_template("report.html").render(
        r=results,
        summary=summary,
        upper_bound=UPPER_BOUND if results["upper_bound"] else None,
        metrics={m: METRICS[m] for m in used},
        tests=tests,
        prior=next(iter(tests.values()))["prior"],
        figures={name: confusion_figure(t["confusion"], t["classes"]) for name, t in tests.items()},
        plan_metrics={m: METRICS[m] for m in used},
        screens=screened,
        probes=probed or {},
        classes=[name for name, count in results["train"].items() if count],
    )


def probes(work: Work, states: dict[str, LoopState]) -> dict[str, str]:
    """Class → its first probe clip, a path relative to the run; empty where the gate made none."""
    gates = [s["gate"] for s in states.values() if s["gate"]]
    if not gates or not (work.path(gates[0]) / "probe").is_dir():
        return {}
    found: dict[str, str] = {}
    for clip in Corpus.open(work.path(gates[0]) / "probe").clips:
        found.setdefault(clip.labels[work.config.task], f"{gates[0]}/probe/{clip.path}")
    return found


def screens(work: Work, states: dict[str, LoopState]) -> list[dict[str, Any]]:
    """Per planner and round with a screen: clips generated and kept, and why the others went.

    The probe clips of the gate come first.
    """
    found = []
    gates = [s["gate"] for s in states.values() if s["gate"]]
    if gates and (work.path(gates[0]) / "screened" / "screen.json").is_file():
        found.append({"what": "gate probes", **_screen(work, f"{gates[0]}/screened")})
    for planner, state in states.items():
        for record in state["records"]:
            if "screen" in record:
                found.append(
                    {"what": f"{planner}, round {record['round']}", **_screen(work, record["screen"])}
                )
    return found


def _screen(work: Work, folder: str) -> dict[str, Any]:
    report = read_screen(work, folder)
    reasons = Counter(v.reason for v in report.verdicts if not v.kept)
    return {
        "generated": sum(report.generated.values()),
        "planned": sum(report.planned.values()),
        "kept": sum(report.kept.values()),
        "reasons": dict(sorted(reasons.items())),
    }


def confusion_figure(confusion: list[list[int]], classes: list[str]) -> str:
    """A confusion matrix (rows: truth) as a ``data:`` URI of a PNG; shades are shares of the row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.6 + 0.5 * len(classes)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # A dollar sign would start matplotlib's math mode.
    names = [name.replace("$", r"\$") for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), names, fontsize=8)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.55 else "#333"
        axes.text(column, row, f"{int(count)}", ha="center", va="center", fontsize=7, color=colour)
    axes.spines[:].set_visible(False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
