"""``resp-agent generate``, ``diagnose`` and ``evaluate``."""

from __future__ import annotations

import csv
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.options import Seed, check_file, check_folder, out
from training.errors import AudioError, DataError
from training.files import read_json

if TYPE_CHECKING:
    from rich.table import Table

    from diagnoser.predict import FilePrediction

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


def evaluate(
    corpus: Annotated[Path, typer.Option(help="Corpus folder.")],
    model: Annotated[Path | None, typer.Option(help="Diagnoser folder or run folder.")] = None,
    split: Annotated[str, typer.Option(help="train, select, plan, valid or test.")] = "test",
    out_file: Annotated[Path | None, typer.Option("--out", help="Write the figures as JSON.")] = None,
    allow_contaminated: Annotated[
        bool,
        typer.Option(
            "--allow-contaminated",
            help="Score subjects that the weights were trained or selected on; stamps the output.",
        ),
    ] = False,
) -> None:
    """Score a diagnoser on a split, with intervals over subjects and the source-prior row.

    **Example**

        resp-agent evaluate --model runs/quickstart --corpus runs/quickstart/corpus --split test
    """
    if out_file is not None:
        check_file(out_file)
    folder = find_diagnoser(model)
    from diagnoser.evaluate import evaluate as score
    from training.files import write_json

    figures = score(folder, corpus, split=split, allow_contaminated=allow_contaminated)
    if out_file is not None:
        write_json(out_file, figures)
    out.print(_score_table(figures))
    if out_file is not None:
        out.print(f"all figures: {out_file}", highlight=False)


def _score_table(figures: dict[str, Any]) -> Table:
    """Figures with their intervals beside the row that guesses the training majority."""
    from rich.table import Table

    title = (
        f"{figures['task']}, {figures['split']}: {figures['clips']} clips of {figures['subjects']} subjects"
    )
    if figures["contaminated"]:
        title += (
            f" — CONTAMINATED: {figures['contaminated']['subjects']} subjects were trained or selected on"
        )
    prior = figures["source_prior"]
    table = Table("figure", "value", "95 % interval", f"always {prior['class']}", title=title)
    for name in ("sp", "se", "score", "accuracy", "macro_f1", "macro_recall", "auroc", "ece"):
        if figures.get(name) is None:
            continue
        low, high = figures["intervals"].get(name) or (None, None)
        interval = "" if low is None else f"{low:.3f} – {high:.3f}"
        guess = prior.get(name)
        table.add_row(name, f"{figures[name]:.3f}", interval, "" if guess is None else f"{guess:.3f}")
    for label, value in figures["recall"].items():
        if figures["support"][label]:
            table.add_row(f"recall {label}", f"{value:.3f}", "", "")
    return table


def find_diagnoser(path: Path | None) -> Path:
    """The diagnoser folder meant by ``--model``: itself, the last one of a run, or of the newest run.

    Raises:
        DataError: there is none, or the run's summary does not name it.
    """
    if path is None:
        runs = sorted(Path("runs").glob("*/summary.json"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise DataError(
                "no finished run in ./runs", cure="give --model, or run `resp-agent loop --config quickstart`"
            )
        path = runs[-1].parent
    if (path / "model.safetensors").is_file():
        return path
    summary = path / "summary.json"
    if not summary.is_file():
        raise DataError(
            "holds no diagnoser and is no finished run", path=path, cure="give a diagnoser or run folder"
        )
    record = read_json(summary)
    if not isinstance(record, dict) or not isinstance(record.get("diagnoser"), str):
        raise DataError(
            "names no diagnoser", path=summary, cure="give the diagnoser's folder, or repeat the run"
        )
    return path / record["diagnoser"]


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
