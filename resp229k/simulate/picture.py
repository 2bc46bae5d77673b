"""A picture of the simulator: the spectrogram of one clip per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import spectrogram

from resp229k.audio import RATE
from resp229k.simulate.clips import simulate_clip
from resp229k.simulate.config import SIMULATED

COLOURS = {
    "fine crackle": "cyan",
    "coarse crackle": "deepskyblue",
    "wheeze": "orange",
    "rhonchus": "magenta",
    "stridor": "red",
}


def figure(folder: Path, *, seed: int = 0, seconds: float = 4.0, source: str = "figure") -> Path:
    """Draw spectrograms (0..4 kHz) of one clip per built class, events as bars; returns the PNG's path."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    drawing = Figure(figsize=(12, 2.0 * len(SIMULATED)), layout="constrained")
    axes = drawing.subplots(len(SIMULATED), 1, sharex=True)
    for axis, label in zip(axes, SIMULATED, strict=True):
        made = simulate_clip(label, seed=seed, seconds=seconds, source=source)
        frequencies, times, power = spectrogram(made.wave, RATE, nperseg=512, noverlap=384)
        level = 10 * np.log10(power + 1e-12)
        axis.pcolormesh(times, frequencies, level, vmin=level.max() - 80, vmax=level.max(), cmap="gray_r")
        for event in made.events:
            axis.plot([event.start, event.end], [3800, 3800], lw=5, color=COLOURS[event.kind])
        heard = ", ".join(sorted({event.kind for event in made.events})) or "no adventitious sound"
        axis.set(ylim=(0, 4000), ylabel="Hz", title=f"{label}: {heard}")
    axes[-1].set_xlabel("seconds")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "simulated.png"
    drawing.savefig(path, dpi=80)
    return path
