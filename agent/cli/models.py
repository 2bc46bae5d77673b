"""``resp-agent generate`` and ``diagnose``; ``evaluate`` has a file of its own."""

from __future__ import annotations

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.evaluate import evaluate, find_diagnoser
from agent.cli.options import Seed, check_folder, out
from training.errors import AudioError, DataError

if TYPE_CHECKING:
    from diagnoser.predict import FilePrediction

__all__ = ["diagnose", "evaluate", "find_diagnoser", "generate"]

SHOWN = 3  # classes in the table of diagnose; csv and json hold all
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff")


class Format(StrEnum):
    """How a table of results is printed."""

    table = "table"
    csv = "csv"
    json = "json"


def generate(
    label: Annotated[str, typer.Option(help="Class to synthesize, e.g. `Asthma`.")],
    style: Annotated[Path, typer.Option(help="Recording whose style (device, noise, room) the clips take.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the WAV and provenance files.")],
    task: Annotated[str, typer.Option(help="Task that the label belongs to.")] = "disease16",
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many clips.")] = 1,
    seconds: Annotated[float, typer.Option(help="Length of each clip, s.")] = 4.0,
    weights: Annotated[str, typer.Option(help="Weights folder or shipped set.")] = "tiny",
    beats_weights: Annotated[
        str | None,
        typer.Option(
            "--beats",
            help="BEATs folder or published tokenizer that the weights were trained with, if it is not in them.",
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Write synthetic clips of a class in the style of a recording, each with its provenance.

    **Example**

        resp-agent generate --task disease16 --label Asthma --style ref.wav -n 4 --out clips
    """
    from resp229k.tasks import get_task

    get_task(task).index(label)  # what is wrong is told before anything heavy is loaded
    check_folder(out_folder)
    if not style.is_file():
        raise AudioError("no such recording", path=style, cure="give a style recording with --style")
    import beats
    from generator.config import MLLMConfig
    from resp229k.audio import load_audio
    from training.config import weights_path

    wave = load_audio(style)
    folder = weights_path(weights)
    MLLMConfig.of_weights(folder).check(task, label, seconds)
    beats_path = None if beats_weights is None else beats.find(beats_weights)
    from generator.sample import Generator, Request
    from generator.write import write_clips

    generator = Generator.load(folder, beats_path=beats_path)
    request = Request(task, label, wave, reference_id=style.name, subject_id="unknown", seconds=seconds)
    files = write_clips(
        generator.generate([request] * number, seed=seed),
        out_folder,
        weights=generator.digests,
        subjects_hash=generator.subjects_hash,
        sample=generator.config,
    )
    for file in files:
        out.print(str(file), soft_wrap=True, highlight=False)


def diagnose(
    recording: Annotated[Path, typer.Argument(help="A recording, or a folder of recordings.")],
    model: Annotated[
        Path | None,
        typer.Option(help="Diagnoser folder or run folder; by default the newest run in `runs/`."),
    ] = None,
    text: Annotated[str | None, typer.Option(help="Narrative: age, sex, auscultation site, …")] = None,
    form: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 when a file of a folder cannot be read.")
    ] = False,
) -> None:
    """Give calibrated class probabilities for recordings. Research only, not a medical device.

    **Examples**

        resp-agent diagnose cough.wav --model runs/quickstart

        resp-agent diagnose recordings/ --format csv > predictions.csv
    """
    paths = _recordings(recording)
    if recording.is_file():
        from resp229k.audio import load_audio

        load_audio(recording)  # an unusable one is told before anything heavy is loaded
    folder = find_diagnoser(model)
    from diagnoser.predict import Predictor

    predictor = Predictor.load(folder)
    if recording.is_file():
        rows = [predictor.predict_file(recording, text)]
    else:
        rows = predictor.predict_files(paths, text=text)
    _print(rows, predictor.classes, form)
    if strict and any(row.error for row in rows):
        raise typer.Exit(2)


def _recordings(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("no such file or folder", path=path, cure="check the path")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not found:
        raise DataError(
            "holds no recordings", path=path, cure=f"expected files ending in {', '.join(AUDIO_SUFFIXES)}"
        )
    return found


def _print(rows: list[FilePrediction], classes: tuple[str, ...], form: Format) -> None:
    from rich.markup import escape
    from rich.table import Table

    records: list[dict[str, Any]] = [
        {"file": str(row.path), "prediction": row.label, "error": row.error, **(row.probabilities or {})}
        for row in rows
    ]
    if form is Format.json:
        out.print_json(json.dumps(records))
        return
    if form is Format.csv:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, ["file", "prediction", "error", *classes], lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        out.file.write(buffer.getvalue())
        return
    table = Table("file", "prediction", "calibrated probabilities")
    table.columns[0].overflow = "fold"
    for row in rows:
        if row.probabilities is None:
            table.add_row(escape(str(row.path)), "", f"[red]{escape(row.error or '')}[/]")
            continue
        likeliest = sorted(row.probabilities.items(), key=lambda item: -item[1])[:SHOWN]
        table.add_row(
            escape(str(row.path)), row.label, " · ".join(f"{name} {p:.2f}" for name, p in likeliest)
        )
    out.print(table)
