"""What all pages share: templates, plots, and a clip to hear and see, all inside the page itself."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from resp229k.audio import RATE
from resp229k.clip import Clip
from resp229k.simulate.page import levels_uri, png_uri, sound_uri

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).resolve().parent / "templates"
BANDS = 64
RANGE = 11.0  # nats from the darkest to the brightest, 48 dB
LONGEST_NAME = 28  # characters of a class beside a plot


def render_page(template: str, **values: Any) -> str:
    """HTML of a template; every word from data is escaped."""
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(template).render(**values)


def sight(wave: np.ndarray, comment: str) -> dict[str, str]:
    """A wave ``(N,)`` at 16 kHz as player and picture (``data:`` URIs), and its seconds.

    Args:
        wave: samples.
        comment: what the sound file says it is.
    """
    return {
        "sound": sound_uri(wave, comment),
        "picture": picture_uri(wave),
        "seconds": f"{wave.size / RATE:.1f}",
    }


def picture_uri(wave: np.ndarray) -> str:
    """A ``data:`` URI of a PNG: the log-mel spectrogram that the judge hears, pitch upwards."""
    import torch

    from beats.judge import log_mel

    return levels_uri(log_mel(torch.from_numpy(np.ascontiguousarray(wave))[None], BANDS)[0].numpy().T, RANGE)


def called(clip: Clip) -> str:
    """A clip and its device in words."""
    return clip.clip_id + (f", {clip.device}" if clip.device else "")


def plot(draw: Callable[[Figure], None], size: tuple[float, float] = (6.4, 3.6), dpi: float = 100) -> bytes:
    """PNG of what ``draw`` puts on a figure of ``size`` inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    draw(figure)
    buffer = io.BytesIO()
    unsigned: dict[str, Any] = {"Software": None}  # it would be an address on the web
    with warnings.catch_warnings():
        # Names in letters that the font lacks stand in the page's text.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        FigureCanvasAgg(figure).print_png(buffer, metadata=unsigned)
    return buffer.getvalue()


def tick(name: str) -> str:
    """A name beside a plot: short, in one line, and no formula."""
    line = " ".join(name.split())
    short = line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"
    # A dollar sign would start matplotlib's math mode.
    return short.replace("$", r"\$")


__all__ = ["called", "picture_uri", "plot", "png_uri", "render_page", "sight", "sound_uri", "tick"]
