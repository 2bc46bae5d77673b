"""A page that shows and plays one simulated clip of every class, in one file that works offline."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from scipy.signal import spectrogram

from resp229k.audio import RATE
from resp229k.clip import Metadata
from resp229k.simulate.clips import SimulatedClip, simulate_clip
from resp229k.simulate.config import SIMULATED, VERSION
from resp229k.simulate.corpora import COMMENT
from resp229k.simulate.recipes import RECIPES
from resp229k.simulate.style import source_style
from training.errors import DataError
from training.files import write_text
from training.progress import track

NAME = "simulator.html"
TEMPLATE = Path(__file__).with_name("page.html")
TOP = 4000  # Hz, upper edge of the spectrograms
RANGE_DB = 70.0  # from the darkest to the brightest
LONGEST = 20.0  # s; the page holds all its sounds
COLOURS = {
    "fine crackle": "#3cc3e8",
    "coarse crackle": "#2f7bf6",
    "wheeze": "#ff9d2e",
    "rhonchus": "#d65cd0",
    "stridor": "#f04848",
    "squawk": "#f2d43a",
    "cough": "#57c46a",
}


def write_page(folder: Path, *, seed: int = 0, source: str = "page", seconds: float = 6.0) -> Path:
    """Write ``simulator.html`` into ``folder``; 6 s clips make a page of 4.5 MB. Returns its path.

    Args:
        folder: made if missing; a page that is there is replaced.
        seed: of the subjects, one per class.
        source: its recorder and room are those of all clips; any name.
        seconds: length of the clips, 1 to 20 s.

    Raises:
        DataError: ``seconds`` is out of its range.
    """
    if not 1 <= seconds <= LONGEST:
        raise DataError(f"cannot show clips of {seconds:g} s", cure=f"ask for 1 to {LONGEST:g} s")
    path = folder / NAME
    write_text(path, render_page(seed=seed, source=source, seconds=seconds))
    return path


def render_page(*, seed: int, source: str, seconds: float) -> str:
    """The page as HTML; every word from data is escaped."""
    from jinja2 import Environment, StrictUndefined

    pages = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    cards = [
        card(label, simulate_clip(label, seed=seed, seconds=seconds, source=source))
        for label in track(SIMULATED, "simulating a clip per class")
    ]
    return pages.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        cards=cards,
        seed=seed,
        style=source_style(source),
        seconds=seconds,
        version=VERSION,
        colours=COLOURS,
        comment=COMMENT,
    )


def card(label: str, made: SimulatedClip) -> dict[str, Any]:
    """What the page says of one clip."""
    length = made.wave.size / RATE
    kinds = sorted({event.kind for event in made.events}, key=list(COLOURS).index)
    lanes = [
        {
            "kind": kind,
            "colour": COLOURS[kind],
            "marks": [
                (100 * event.start / length, 100 * (event.end - event.start) / length)
                for event in made.events
                if event.kind == kind
            ],
            "times": ", ".join(
                f"{event.start:.2f}–{event.end:.2f} s" for event in made.events if event.kind == kind
            ),
        }
        for kind in kinds
    ]
    habits = sorted(RECIPES[label].habits, key=lambda habit: -habit.chance)
    return {
        "label": label,
        "lanes": lanes,
        "sound": sound_uri(made.wave),
        "picture": picture_uri(made.wave),
        "usual": ", ".join(f"{habit.kind} in {habit.chance:.0%}" for habit in habits) + " of clips",
        "subject": subject_words(made.metadata),
        "icbhi4": made.labels["icbhi4"],
    }


def subject_words(metadata: Metadata) -> str:
    """The simulated subject in words."""
    parts = [
        "" if metadata.age_years is None else f"{metadata.age_years:g} years",
        metadata.sex or "",
        "" if metadata.height_cm is None else f"{metadata.height_cm:.0f} cm",
        "" if metadata.weight_kg is None else f"{metadata.weight_kg:.0f} kg",
        "" if metadata.bmi is None else f"BMI {metadata.bmi:g}",
        metadata.site or "",
    ]
    return ", ".join(part for part in parts if part)


def sound_uri(wave: np.ndarray, comment: str = COMMENT) -> str:
    """A ``data:`` URI of 16-bit FLAC that says what it is, by default that it is simulated."""
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", samplerate=RATE, channels=1, format="FLAC", subtype="PCM_16") as file:
        file.comment = comment
        file.write(wave)
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture_uri(wave: np.ndarray) -> str:
    """A ``data:`` URI of a PNG: the spectrogram below :data:`TOP`, time to the right, pitch upwards."""
    frequencies, _, power = spectrogram(wave, RATE, nperseg=512, noverlap=256)
    return levels_uri(10 * np.log10(power[frequencies <= TOP] + 1e-12), RANGE_DB)


def levels_uri(levels: np.ndarray, span: float) -> str:
    """A ``data:`` URI of a PNG of levels ``(bins, frames)``, the first bin at the bottom; the loudest ``span`` shows."""
    from matplotlib.image import imsave  # slow to import, and only needed here

    high = float(np.percentile(levels, 99.9))
    buffer = io.BytesIO()
    unsigned: dict[str, Any] = {"Software": None}  # it would be an address on the web
    imsave(buffer, levels[::-1], vmin=high - span, vmax=high, cmap="magma", format="png", metadata=unsigned)
    return png_uri(buffer.getvalue())


def png_uri(png: bytes) -> str:
    """A ``data:`` URI of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
