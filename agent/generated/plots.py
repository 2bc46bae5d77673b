"""Plots of an evaluation, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.generated.compare import CODEC, GENERATOR, NOISE, REAL, REPLAYED, SIMULATOR
from agent.pages import plot, tick
from generator.codec_config import MelConfig
from generator.metrics import modulation_spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    REAL: "#5c6b7a",
    CODEC: "#b08900",
    REPLAYED: "#8e6bb0",
    SIMULATOR: "#3a9d5d",
    GENERATOR: "#1f6f8b",
    NOISE: "#c0392b",
}


def plots(results: Mapping[str, Any], frames: Mapping[str, Sequence[np.ndarray]]) -> dict[str, bytes]:
    """File stem → PNG.

    Args:
        results: of the evaluation.
        frames: log-mel of the clips of each row ``(L, M)``, of the first seed.
    """
    return {
        "recall": _drawn(lambda axes: _recall(axes, results)),
        "fad": _drawn(lambda axes: _fad(axes, results)),
        "modulation": _drawn(lambda axes: _modulation(axes, frames)),
    }


def _recall(axes: Axes, results: Mapping[str, Any]) -> None:
    names = [name for name in COLOURS if name in results["rows"]]
    classes = results["protocol"]["classes"]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        figures = [results["rows"][name]["classes"][label]["recall"] for label in classes]
        axes.bar(
            np.arange(len(classes)) + (i - (len(names) - 1) / 2) * width,
            [one["mean"] for one in figures],
            width,
            yerr=None if figures[0]["std"] is None else [one["std"] for one in figures],
            color=COLOURS[name],
            label=name,
        )
    axes.set_xticks(range(len(classes)), [tick(label) for label in classes], rotation=25, ha="right")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("judge recall")


def _fad(axes: Axes, results: Mapping[str, Any]) -> None:
    for name in (name for name in COLOURS if name in results["curves"]):
        clips, values = zip(*results["curves"][name], strict=True)
        axes.plot(clips, values, "o-", color=COLOURS[name], label=name)
    axes.set_yscale("log")
    axes.set_xlabel("clips")
    axes.set_ylabel("FAD to real clips (log)")


def _modulation(axes: Axes, frames: Mapping[str, Sequence[np.ndarray]]) -> None:
    for name in (name for name in COLOURS if name in frames):
        hertz, power = modulation_spectrum(frames[name], MelConfig().frame_rate)
        axes.plot(hertz, 10 * np.log10(np.maximum(power, 1e-12)), color=COLOURS[name], label=name)
    axes.set_xlabel("modulation of the log-mel, Hz")
    axes.set_ylabel("power, dB")


def _drawn(draw: Any) -> bytes:
    def whole(figure: Figure) -> None:
        axes = figure.add_subplot()
        draw(axes)
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=len(COLOURS))
        axes.spines[["top", "right"]].set_visible(False)

    return plot(whole)
