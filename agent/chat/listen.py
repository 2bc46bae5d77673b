"""Tools that hear recordings: ``diagnose`` and ``spectrogram``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from agent.chat.job import Arguments, Job, Result
from agent.chat.place import Place
from training.errors import AudioError, DataError

if TYPE_CHECKING:
    from diagnoser.predict import FilePrediction

FEW = 20  # recordings that are heard without asking
SHOWN = 3  # classes per row


class Diagnose(Arguments):
    """Arguments of ``diagnose``."""

    recording: str = Field(description="A recording, or a folder of recordings.")
    model: str | None = Field(
        default=None, description="Folder of a diagnoser or run; null: the newest run in runs/."
    )
    text: str | None = Field(
        default=None, description="What the user said of the patient: age, sex, site, symptoms."
    )


class Spectrogram(Arguments):
    """Arguments of ``spectrogram``."""

    recording: str
    out: str = Field(description="A new file that ends with .png.")


def diagnose(args: Diagnose, place: Place) -> Job:
    """Calibrated probabilities, as ``resp-agent diagnose`` gives them.

    The model is told those of one recording; of a folder, whose file names may be anybody's, only how
    often each class was likeliest.
    """
    from agent.cli.diagnose import recordings
    from agent.cli.evaluate import find_diagnoser

    path = place.recording(args.recording)
    paths, names = recordings(path)
    folder = find_diagnoser(None if args.model is None else place.inside(args.model))

    def run() -> Result:
        from diagnoser.predict import Predictor

        predictor = Predictor.load(folder)
        if path.is_file():
            told = _rounded(predictor.predict_file(path, args.text))
            return Result({"task": predictor.task, "recording": args.recording, **told})
        rows = predictor.predict_files(paths, args.text)
        return Result({"task": predictor.task, **_counted(rows)}, _table(rows, names))

    many = len(paths) > FEW
    return Job(run, f"diagnose {len(paths)} recordings in {args.recording}" if many else None)


def _rounded(row: FilePrediction) -> dict[str, Any]:
    assert row.probabilities is not None  # a single recording that cannot be used is an error
    shares = {name: round(share, 4) for name, share in row.probabilities.items()}
    return {"likeliest": row.label, "calibrated_probabilities": shares}


def _counted(rows: list[FilePrediction]) -> dict[str, Any]:
    heard = [row for row in rows if row.label is not None]
    return {
        "recordings": len(rows),
        "could_not_be_read": len(rows) - len(heard),
        "likeliest": dict(Counter(row.label for row in heard).most_common()),
        "note": "the user is shown each recording's own row",
    }


def _table(rows: list[FilePrediction], names: list[str]) -> list[list[str]]:
    table = [["file", "prediction", "calibrated probabilities"]]
    for row, name in zip(rows, names, strict=True):
        shares = sorted((row.probabilities or {}).items(), key=lambda item: -item[1])[:SHOWN]
        words = " · ".join(f"{label} {share:.2f}" for label, share in shares)
        table.append([name, row.label or "", row.error or words])
    return table


def spectrogram(args: Spectrogram, place: Place) -> Job:
    """A picture of a recording, up to 4 kHz, for the user."""
    path, picture = place.recording(args.recording), place.fresh(args.out)
    if picture.suffix.lower() != ".png":
        raise DataError("a picture is a .png file", cure="let out end with .png")
    if not path.is_file():
        raise AudioError("no such recording", path=path, cure="check the path with the user")

    def run() -> Result:
        return Result({"written": str(picture), "seconds": round(draw(path, picture), 2)})

    known = (place.root / picture).parent.is_dir() or place.above(picture)
    return Job(run, f"write {picture.name} into the folder {picture.parent}" if known else None)


def draw(recording: Path, picture: Path) -> float:
    """Write the PNG; the recording's length in s.

    Raises:
        AudioError: the recording cannot be used.
    """
    import io

    from matplotlib.figure import Figure

    from diagnoser.explain_plot import draw_sound
    from resp229k.audio import RATE, load_audio
    from training.files import write_bytes

    wave = load_audio(recording)
    figure = Figure(figsize=(10, 4), layout="constrained")
    axis: Any = figure.add_subplot()
    draw_sound(axis, wave)
    axis.tick_params(labelbottom=True)
    axis.set_xlabel("time, s")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    write_bytes(picture, drawn.getvalue())
    return float(wave.size / RATE)
