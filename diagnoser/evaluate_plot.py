"""An evaluation as pictures: confusion, reliability, and the score of every source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnoser.metrics import ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONG = 12  # classes beyond which a matrix shows no numbers


def plot(report: dict[str, Any], folder: Path) -> None:
    """Draw ``confusion.png``, ``reliability.png`` and ``sources.png`` of a report into a folder."""
    runs = report["runs"]
    title = f"{report.get('suite') or report['task']}, {report['split']}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (("confusion", _confusion), ("reliability", _reliability), ("sources", _sources)):
        figure = draw(runs)
        figure.suptitle(title)
        figure.savefig(folder / f"{name}.png", dpi=120)


def _confusion(runs: Sequence[dict[str, Any]]) -> Figure:
    """Mean row shares over runs; classes that neither occur nor are guessed are left out."""
    from matplotlib.figure import Figure

    counts = np.array([run["confusion"]["counts"] for run in runs])
    names = runs[0]["confusion"]["classes"]
    used = [i for i in range(len(names)) if counts[:, i].any() or counts[:, :, i].any()]
    total = counts.sum(axis=0)[np.ix_(used, used)]
    shares = ratio(total, total.sum(axis=1, keepdims=True))
    size = 2.5 + 0.55 * len(used)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axis, label="share of the true class")
    labels = [names[i] for i in used]
    axis.set_xticks(range(len(used)), labels, rotation=60, ha="right")
    axis.set_yticks(range(len(used)), labels)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    if len(used) <= LONG:
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                colour = "white" if share > 0.6 else "black"
                axis.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def _reliability(runs: Sequence[dict[str, Any]]) -> Figure:
    """Share of hits over confidence, all runs together, and below how many clips a bin holds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1)
    for name, label in (("reliability_raw", "before temperature"), ("reliability", "calibrated")):
        bins = _together([run[name] for run in runs if name in run])
        if bins:
            above.plot(*zip(*[(b[0], b[1]) for b in bins], strict=True), marker="o", label=label)
            below.plot(*zip(*[(b[0], b[2]) for b in bins], strict=True), marker="o")
    above.set_ylabel("share of hits")
    above.set_ylim(0, 1)
    above.legend()
    below.set_yscale("log")
    below.set_ylabel("clips")
    below.set_xlabel("confidence of the top class")
    below.set_xlim(0, 1)
    return figure


def _together(runs: Sequence[Sequence[dict[str, Any]]]) -> list[tuple[float, float, int]]:
    """Confidence, share of hits and clips of each bin over all runs."""
    found = []
    for low in sorted({one["low"] for bins in runs for one in bins}):
        here = [one for bins in runs for one in bins if one["low"] == low]
        clips = np.array([one["clips"] for one in here])
        means = [
            np.average([one[name] for one in here], weights=clips) for name in ("confidence", "accuracy")
        ]
        found.append((float(means[0]), float(means[1]), int(clips.sum())))
    return found


def _sources(runs: Sequence[dict[str, Any]]) -> Figure:
    """Score (macro-F1 where the task has none) of each source: one dot a run, its interval over subjects."""
    from matplotlib.figure import Figure

    sources = list(dict.fromkeys(source for run in runs for source in run["per_source"]))
    figure = Figure(figsize=(max(4.0, 1.6 * len(sources) + 1), 4), layout="constrained")
    axis: Axes = figure.subplots()
    blocks = [block for run in runs for block in run["per_source"].values()]
    name = "score" if any(block.get("score") is not None for block in blocks) else "macro_f1"
    for place, run in enumerate(runs):
        shift = 0.12 * (place - (len(runs) - 1) / 2)
        for index, source in enumerate(sources):
            block = run["per_source"].get(source, {})
            if block.get(name) is None:
                continue
            low, high = block["intervals"][name]
            value = block[name]
            # A percentile interval of few subjects need not hold the value.
            reach = [[max(0.0, value - low)], [max(0.0, high - value)]]
            axis.errorbar(index + shift, value, yerr=reach, fmt="o", color=f"C{place % 10}", capsize=3)
    axis.set_xticks(range(len(sources)), sources)
    axis.set_xlim(-0.5, len(sources) - 0.5)
    axis.set_ylim(0, 1)
    axis.set_ylabel({"score": "Score", "macro_f1": "macro-F1"}[name])
    return figure
