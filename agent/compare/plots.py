"""Plots of a comparison: macro-F1 against clips added, and paired differences with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.compare.page import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOREST = ("macro_f1", "tail_macro_f1")


def plot(results: dict[str, Any], *paths: Path) -> None:
    """Draw one figure and write it to every path; the suffix decides the format."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = results["rows"]
    names = list(dict.fromkeys(row["name"] for row in rows.values()))
    colours = {name: f"C{place % 10}" for place, name in enumerate(names)}
    height = 3.6 + 0.34 * sum("differences" in row for row in rows.values())
    figure = Figure(figsize=(12, 1.4 + height), layout="constrained")
    top, bottom = figure.subplots(2, 2, height_ratios=[3.6, height - 3.6 + 0.9])
    for axis, balanced in zip(top, (False, True), strict=True):
        curves(axis, [row for row in rows.values() if row["balanced"] == balanced], colours)
        axis.set_title("balanced sampling" if balanced else "plain sampling")
    top[1].sharey(top[0])
    top[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    for axis, name in zip(bottom, FOREST, strict=True):
        forest(axis, results, name, colours)
    bottom[1].tick_params(labelleft=False)
    if results["upper_bound"]:
        figure.suptitle(results["upper_bound"])
    # A fixed salt and no date: equal results are equal files.
    with matplotlib.rc_context({"svg.hashsalt": "compare"}):
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def curves(axis: Axes, rows: list[dict[str, Any]], colours: dict[str, str]) -> None:
    """Mean over seeds by round, its standard deviation as a band; a row that adds nothing is a dashed line."""
    for row in rows:
        steps = [one for one in row["efficiency"] if one["macro_f1"]["mean"] is not None]
        clips = np.array([one["clips"]["mean"] for one in steps])
        mean = np.array([one["macro_f1"]["mean"] for one in steps])
        std = np.array([one["macro_f1"]["std"] or 0.0 for one in steps])
        colour = colours[row["name"]]
        if not clips.any():
            axis.axhline(mean[-1], color=colour, linestyle="--", linewidth=1, label=row["name"])
            continue
        axis.plot(clips, mean, "o-", color=colour, label=row["name"])
        axis.fill_between(clips, mean - std, mean + std, color=colour, alpha=0.12, linewidth=0)
    axis.set_xlabel("clips added")
    axis.set_ylabel("macro-F1, plan split")
    axis.grid(alpha=0.3)


def forest(axis: Axes, results: dict[str, Any], name: str, colours: dict[str, str]) -> None:
    """Paired differences of a score: a dot per seed, thick over seeds, thin over test subjects."""
    labels = [label for label, row in results["rows"].items() if "differences" in row]
    for place, label in enumerate(labels):
        row = results["rows"][label]
        one, colour = row["differences"][name], colours[row["name"]]
        if one["mean"] is None:
            continue
        for pair, shift, width in ((one["over_seeds"], -0.13, 3.0), (one["over_subjects"], 0.13, 1.0)):
            if pair is not None:
                axis.plot(pair, [place + shift] * 2, color=colour, linewidth=width, solid_capstyle="butt")
        axis.plot(one["values"], [place] * len(one["values"]), ".", color=colour, alpha=0.5, markersize=4)
        axis.plot(one["mean"], place, "D", color=colour, markersize=5)
    axis.axvline(0.0, color="black", linestyle="--", linewidth=1)
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlabel(
        f"{TITLES[name]}, test: difference to {results['reference']}\nthick: over seeds, thin: subjects"
    )
    axis.grid(axis="x", alpha=0.3)
