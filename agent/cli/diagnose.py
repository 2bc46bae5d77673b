"""``resp-agent diagnose``: calibrated probabilities of recordings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.evaluate import find_diagnoser
from agent.cli.options import check_folder, out
from training.errors import ConfigError, DataError

if TYPE_CHECKING:
    from diagnoser.predict import FilePrediction, Predictor
    from diagnoser.sheet import Sheet
    from resp229k.sources.recording import Stretch

SHOWN = 3  # classes in the table; csv and json hold all
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".webm", ".m4a", ".mp4")


class Format(StrEnum):
    """How a table of results is printed."""

    table = "table"
    csv = "csv"
    json = "json"


def diagnose(
    recording: Annotated[
        Path | None, typer.Argument(help="A recording, or a folder of recordings; none: --text alone.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Diagnoser folder or run folder; by default the newest run in `runs/`."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Narrative of every recording: age, sex, auscultation site, …")
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(help="CSV file: `file` and any of age_years, sex, site, symptoms, conditions."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
    explain: Annotated[
        Path | None, typer.Option(help="Folder for a picture per recording: where the diagnoser looked.")
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(help="Folder of ICBHI (.txt) or SPRSound (.json) annotations, drawn beside that."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 when a file of a folder cannot be read.")
    ] = False,
) -> None:
    """Give calibrated class probabilities for recordings. Research only, not a medical device.

    Symptoms and conditions in the CSV file are separated by semicolons, `none` says that there are none; an
    empty cell is not known. A recording without a row is listened to only.

    **Examples**

        resp-agent diagnose cough.wav --model runs/quickstart

        resp-agent diagnose recordings/ --metadata patients.csv --format csv > predictions.csv

        resp-agent diagnose recordings/ --explain pictures --annotations ICBHI_final_database

        resp-agent diagnose --text "A man, 61 years old." --model runs/quickstart
    """
    _check(recording, text, metadata, explain, annotations)
    paths, names = ([], []) if recording is None else recordings(recording)
    sheet = None if metadata is None else _sheet(metadata)
    if recording is not None and recording.is_file():
        from resp229k.audio import load_audio

        load_audio(recording)  # an unusable one is told before anything heavy is loaded
    known = {} if annotations is None else _annotations(paths, annotations)
    folder = find_diagnoser(model)
    from diagnoser.predict import Predictor
    from training.progress import console

    predictor = Predictor.load(folder)
    texts = [
        text if sheet is None else sheet.narrative(n, predictor.task, predictor.record.seed) for n in names
    ]
    if unread := predictor.unread([told for told in texts or [text] if told]):
        console.print(unread, markup=False)
    if recording is None:
        rows = [predictor.predict_file(None, text)]
    elif recording.is_file():
        rows = [predictor.predict_file(recording, texts[0])]
    else:
        rows = predictor.predict_files(paths, texts) + _missing(sheet, names, recording)
    if explain is not None:
        _explain(predictor, rows, texts, names, known, explain)
    _print(rows, predictor.classes, form)
    if strict and any(row.error for row in rows):
        raise typer.Exit(2)


def _check(
    recording: Path | None,
    text: str | None,
    metadata: Path | None,
    explain: Path | None,
    annotations: Path | None,
) -> None:
    if recording is None and (text is None or explain is not None or metadata is not None):
        raise ConfigError("no recording", cure="give a recording or a folder, or --text alone")
    if text is not None and metadata is not None:
        raise ConfigError("--text and --metadata both say what is known", cure="give one of them")
    if annotations is not None and explain is None:
        raise ConfigError("--annotations are drawn by --explain only", cure="give --explain FOLDER too")
    if annotations is not None and not annotations.is_dir():
        raise DataError("no such folder of annotations", path=annotations, cure="check the path")
    if explain is not None:
        check_folder(explain)


def _sheet(path: Path) -> Sheet:
    from diagnoser.sheet import read_sheet
    from training.progress import console

    sheet = read_sheet(path)
    if sheet.unread:
        console.print(
            f"columns of {path.name} that no diagnoser reads: {', '.join(sheet.unread)}", markup=False
        )
    return sheet


def recordings(path: Path) -> tuple[list[Path], list[str]]:
    """Recordings, and their names within the folder.

    Raises:
        DataError: there are none.
    """
    if path.is_file():
        return [path], [path.name]
    if not path.is_dir():
        raise DataError("no such file or folder", path=path, cure="check the path")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    if not found:
        raise DataError(
            "holds no recordings", path=path, cure=f"expected files ending in {', '.join(AUDIO_SUFFIXES)}"
        )
    return found, [one.relative_to(path).as_posix() for one in found]


def _missing(sheet: Sheet | None, names: Sequence[str], folder: Path) -> list[FilePrediction]:
    """A row for every file that the CSV file names and nobody finds."""
    from diagnoser.predict import FilePrediction

    gone = [] if sheet is None else sorted(set(sheet.rows) - set(names))
    return [
        FilePrediction(folder / name, error="no such recording → named in the CSV file only") for name in gone
    ]


def _annotations(paths: Sequence[Path], folder: Path) -> dict[Path, tuple[Stretch, ...]]:
    from resp229k.sources.sidecar import annotated

    found = {path: annotated(path.stem, folder) for path in paths}
    known = {path: marks for path, marks in found.items() if marks is not None}
    if not known:
        raise DataError(
            "annotates none of the recordings", path=folder, cure="name annotations as their recordings"
        )
    return known


def _explain(
    predictor: Predictor,
    rows: Sequence[FilePrediction],
    texts: Sequence[str | None],
    names: Sequence[str],
    known: dict[Path, tuple[Stretch, ...]],
    folder: Path,
) -> None:
    """Write ``<file>.png`` per recording that has probabilities, in folders as the recordings'."""
    from diagnoser.explain import explain_wave
    from diagnoser.explain_plot import by_word, plot_explanation
    from resp229k.audio import load_audio
    from training.progress import track

    for row, text, name in track(list(zip(rows, texts, names, strict=False)), "explain"):
        if row.path is None or row.probabilities is None:
            continue
        wave = load_audio(row.path)
        attention = explain_wave(predictor, wave, text)
        plot_explanation(
            folder / f"{name}.png",
            wave,
            attention,
            row.probabilities,
            title=name,
            words=by_word(predictor.words, text, attention.tokens) if text and predictor.words else (),
            annotations=known.get(row.path, ()),
        )


def _print(rows: Sequence[FilePrediction], classes: tuple[str, ...], form: Format) -> None:
    from rich.markup import escape
    from rich.table import Table

    records: list[dict[str, Any]] = [
        {"file": _name(row), "prediction": row.label, "error": row.error, **(row.probabilities or {})}
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
            table.add_row(escape(_name(row)), "", f"[red]{escape(row.error or '')}[/]")
            continue
        likeliest = sorted(row.probabilities.items(), key=lambda item: -item[1])[:SHOWN]
        table.add_row(escape(_name(row)), row.label, " · ".join(f"{name} {p:.2f}" for name, p in likeliest))
    out.print(table)


def _name(row: FilePrediction) -> str:
    return "" if row.path is None else str(row.path)
