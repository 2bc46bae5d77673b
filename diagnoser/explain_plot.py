"""One picture per recording: what sounds when, where the classifier looked, and what it said."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.signal import spectrogram

from diagnoser.explain import COLUMN, Attention
from resp229k.audio import RATE
from resp229k.sources.recording import Stretch
from training.files import write_bytes

if TYPE_CHECKING:
    from diagnoser.text import Words

TOP = 4000.0  # Hz, upper edge of the spectrogram
SHOWN = 8  # classes and words


def by_time(columns: np.ndarray, seconds: float) -> np.ndarray:
    """Attention ``(T,)`` per 160 ms of a recording; what a loop hears again is added to its first hearing.

    Args:
        columns: over the input's time.
        seconds: of the recording.
    """
    count = max(1, round(seconds / COLUMN))
    if len(columns) <= count:
        return columns
    middle = (np.arange(len(columns)) + 0.5) * COLUMN % seconds
    place = np.minimum((middle / COLUMN).astype(int), count - 1)
    return np.bincount(place, weights=columns, minlength=count)


def by_word(words: Words, text: str, tokens: np.ndarray) -> list[tuple[str, float]]:
    """Attention on each word of a narrative, the sum of its pieces; words behind the last token are left out."""
    encoded = words.tokenizer.encode(text, add_special_tokens=False)
    found: dict[int, tuple[int, int, float]] = {}
    for share, word, (start, end) in zip(tokens, encoded.word_ids, encoded.offsets, strict=False):
        assert word is not None  # no special tokens were added
        first, _, total = found.get(word, (start, end, 0.0))
        found[word] = (first, end, total + float(share))
    return [(text[start:end], share) for start, end, share in found.values()]


def plot_explanation(
    path: Path,
    wave: np.ndarray,
    attention: Attention,
    probabilities: Mapping[str, float],
    *,
    title: str,
    words: Sequence[tuple[str, float]] = (),
    annotations: Sequence[Stretch] = (),
) -> None:
    """Draw spectrogram, annotated crackles and wheezes, ``[CLS]``'s attention over time, and the likeliest classes.

    Args:
        path: PNG file.
        wave: 16 kHz ``(S,)``.
        attention: over that wave.
        probabilities: per class.
        title: of the picture.
        words: of the narrative, with their attention.
        annotations: in seconds of the recording.
    """
    from matplotlib.figure import Figure  # imported late: tables alone need no plotting

    seconds = wave.size / RATE
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(3, 1), height_ratios=(5, 1, 2))
    sound: Any = figure.add_subplot(grid[0, 0])
    marks: Any = figure.add_subplot(grid[1, 0], sharex=sound)
    looked: Any = figure.add_subplot(grid[2, 0], sharex=sound)
    draw_sound(sound, wave)
    _marks(marks, annotations)
    shares = by_time(attention.columns, seconds)
    looked.stairs(shares, np.arange(len(shares) + 1) * COLUMN, fill=True, color="C0")
    looked.axhline(shares.mean(), color="black", linestyle="--", linewidth=1)
    looked.set_ylabel("attention")
    looked.set_xlabel(f"time, s (dashed: even; audio has {attention.columns.sum():.0%} of all attention)")
    looked.set_xlim(0, seconds)
    likeliest = sorted(probabilities.items(), key=lambda item: -item[1])[:SHOWN]
    said: Any = figure.add_subplot(grid[0, 1])
    _bars(said, likeliest, "calibrated probability", "C2")
    said.set_xlim(0, 1)
    if words:
        most = sorted(words, key=lambda item: -item[1])[:SHOWN]
        _bars(figure.add_subplot(grid[1:, 1]), most, "attention to words", "C0")
    figure.suptitle(title, parse_math=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, drawn.getvalue())


def draw_sound(axis: Any, wave: np.ndarray) -> None:
    """Draw the spectrogram below :data:`TOP` of a 16 kHz wave ``(S,)``, without labels of time."""
    pitch, time, power = spectrogram(
        wave, RATE, nperseg=min(512, wave.size), noverlap=min(384, wave.size // 2)
    )
    low = pitch <= TOP
    level = 10 * np.log10(power[low] + 1e-12)
    axis.pcolormesh(
        time, pitch[low], level, vmin=level.max() - 70, cmap="magma", shading="nearest", rasterized=True
    )
    axis.set_ylabel("Hz")
    axis.tick_params(labelbottom=False)


def _marks(axis: Any, annotations: Sequence[Stretch]) -> None:
    """A lane of crackles and one of wheezes, of every kind."""
    for place, (has, colour) in enumerate((("crackle", "C3"), ("wheeze", "C1"))):
        spans = [(one.start, one.end - one.start) for one in annotations if getattr(one, has)]
        axis.broken_barh(spans, (place - 0.4, 0.8), color=colour)
    axis.set_yticks([0, 1], ["crackle", "wheeze"])
    axis.set_ylim(1.6, -0.6)
    axis.tick_params(labelbottom=False)
    if not annotations:
        axis.text(0.5, 0.5, "not annotated", transform=axis.transAxes, ha="center", va="center", color="grey")


def _bars(axis: Any, rows: Sequence[tuple[str, float]], title: str, colour: str) -> None:
    axis.barh(range(len(rows)), [share for _, share in rows], color=colour)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize="small", parse_math=False)
    axis.invert_yaxis()
    axis.set_title(title, fontsize="medium")
