"""Plots of a run, each a ``data:`` URI with its natural width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.pages import plot, png_uri, tick
from agent.reporting.story import WORDS, sums
from agent.state import LoopState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#1f6f8b", "#c0562b", "#3a9d5d", "#7b52ab", "#b08900", "#c2397f", "#5c6b7a", "#2f7bf6", "#8a4b2a")
REAL = "#9aa5b0"
ADDED = {"duplicate": "#b08900", "restyle": "#7b52ab", "synthesize": "#1f6f8b"}
PIXELS = 88  # of the page per inch of a plot: text of 8 points is 10 pixels high


def rounds_plot(states: Mapping[str, LoopState]) -> dict[str, Any]:
    """Macro-F1 on ``plan`` of the diagnoser that stands after each round; a cross is a round rolled back."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, (name, state) in enumerate(states.items()):
            colour = COLOURS[i % len(COLOURS)]
            values = [score["macro_f1"] for score in state["scores"]]
            axes.plot(range(len(values)), values, "o-", color=colour, label=tick(name), alpha=0.85)
            undone = [r for r in state["records"] if r.get("rolled_back")]
            axes.plot(
                [r["round"] for r in undone], [r["validation"]["macro_f1"] for r in undone], "x", color=colour
            )
        axes.set_xticks(range(max(len(state["scores"]) for state in states.values())))
        axes.set_xlabel("round")
        axes.set_ylabel("macro-F1, plan split")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=3)

    return _shown(draw, (4.4, 3.3), "Macro-F1 on the plan split after each round, one line per planner")


def change_plot(state: LoopState) -> dict[str, Any] | None:
    """F1 of every class, from the baseline to the diagnoser that was tested; None if nothing was added."""
    first, last = (state["scores"][i].get("f1") or {} for i in (0, -1))
    names = [n for n in first if first[n] is not None and last.get(n) is not None]
    if not names or not sums(state["records"]):
        return None
    names.sort(key=lambda n: (first[n], n), reverse=True)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, name in enumerate(names):
            colour = "#1d7a46" if last[name] >= first[name] else "#b3372b"
            axes.plot([first[name], last[name]], [row, row], color=colour, linewidth=3, alpha=0.5)
        rows = range(len(names))
        axes.plot([first[n] for n in names], rows, "o", color=REAL, label="baseline", markersize=6)
        axes.plot([last[n] for n in names], rows, "o", color=COLOURS[0], label="at the end", markersize=6)
        axes.set_yticks(rows, [tick(n) for n in names], fontsize=8)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("F1, plan split")
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right", "left"]].set_visible(False)
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)

    title = f"F1 per class with planner {state['planner']}: baseline and end"
    return _shown(draw, (4.4, 1.2 + 0.26 * len(names)), title)


def counts_plot(state: LoopState, real: Mapping[str, int]) -> dict[str, Any] | None:
    """Training clips per class: real ones and what was added; None if nothing was."""
    added = sums(state["records"])
    if not added:
        return None
    names = sorted((n for n in real if real[n]), key=lambda n: (real[n], n))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = np.arange(len(names))
        left = np.array([real[n] for n in names], dtype=float)
        axes.barh(rows, left, color=REAL, label="real")
        for method, counts in added.items():
            width = np.array([counts.get(n, 0) for n in names], dtype=float)
            colour = ADDED.get(method, COLOURS[1])
            axes.barh(rows, width, left=left, color=colour, label=WORDS.get(method, method))
            left = left + width
        axes.set_yticks(rows, [tick(n) for n in names], fontsize=8)
        axes.set_xlabel("training clips")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=2)

    title = f"Training clips per class with planner {state['planner']}: real and added"
    return _shown(draw, (4.4, 1.2 + 0.26 * len(names)), title)


def confusion_plot(
    planner: str, confusion: Sequence[Sequence[int]], classes: Sequence[str]
) -> dict[str, Any]:
    """A confusion matrix (rows: truth); shades are shares of the row."""
    counts = np.asarray(confusion, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        names = [tick(name) for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), names, fontsize=8)
        axes.set_xlabel("predicted", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.55 else "#333"
            axes.text(column, row, f"{int(count)}", ha="center", va="center", fontsize=7, color=colour)
        axes.spines[:].set_visible(False)

    side = 1.8 + 0.36 * len(classes)
    return _shown(draw, (side + 0.4, side), f"Confusion matrix of planner {planner} on the test split")


def _shown(draw: Callable[[Figure], None], size: tuple[float, float], alt: str) -> dict[str, Any]:
    def clear(figure: Figure) -> None:
        figure.patch.set_alpha(0)  # the page's own ground shows, light or dark
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)

    return {
        "uri": png_uri(plot(clear, size, dpi=2 * PIXELS)),
        "width": round(size[0] * PIXELS),
        "height": round(size[1] * PIXELS),
        "alt": alt,
    }
