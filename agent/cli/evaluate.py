"""``resp-agent evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import check_file, check_folder, out, print_rows
from training.errors import ConfigError, DataError
from training.files import read_json


def evaluate(
    corpus: Annotated[Path | None, typer.Option(help="Corpus folder; or give --suite.")] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="icbhi, icbhi-official, spr, spr-records, spr-inter, spr-intra, spr2icbhi, icbhi2spr, "
            "test-cd, covid, loso, `ood:<source>` or `all`."
        ),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(help="Diagnoser folder or run folder; repeat it for folds and seeds."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of a corpus: train, select, plan, valid or test.")] = "test",
    destination: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for metrics.json, metrics.md and plots, or a `.json` file for figures alone.",
        ),
    ] = None,
    root: Annotated[str, typer.Option(help="Folder of the recordings as published.")] = "${RESP_DATA}",
    work: Annotated[Path, typer.Option(help="Folder that keeps the suites' corpora.")] = Path("cache/suites"),
    draws: Annotated[int, typer.Option(min=1, help="Bootstrap samples of the intervals.")] = 1000,
    allow_contaminated: Annotated[
        bool,
        typer.Option(
            "--allow-contaminated",
            help="Score subjects that the weights were trained or selected on; stamps the output.",
        ),
    ] = False,
) -> None:
    """Score diagnosers on a split of a corpus, or on a suite, with intervals over subjects.

    Of a suite with folds, each diagnoser is scored on the folds whose test subjects it does not know; those
    of one seed are put together, several seeds give mean ± standard deviation.

    **Examples**

        resp-agent evaluate --model runs/quickstart --corpus runs/quickstart/corpus --split test

        resp-agent evaluate --model seed0 --model seed1 --model seed2 --suite spr2icbhi --out results

        resp-agent evaluate --model seed0 --suite all --root ~/data --out results
    """
    if (corpus is None) == (suite is None):
        raise ConfigError("give either a corpus or a suite", cure="give --corpus FOLDER or --suite NAME")
    if suite not in (None, "all"):
        from diagnoser.suites import get_suite

        get_suite(suite)  # what is wrong is told before anything heavy is loaded
    single = destination is not None and destination.suffix == ".json"
    if destination is not None:
        (check_file if single else check_folder)(destination)
    folders = [find_diagnoser(path) for path in model] if model else [find_diagnoser(None)]
    options: dict[str, Any] = {"allow_contaminated": allow_contaminated, "draws": draws}
    if suite is not None:
        report = on_suite(folders, suite, options | {"root": root, "work": work})
    else:
        assert corpus is not None
        report = on_corpus(folders, corpus, split, options)
    for name, one in report.get("suites", {report.get("suite"): report}).items():
        _print(name, one)
    for name, reason in report.get("skipped", {}).items():
        out.print(f"not scored: {name}: {reason}", soft_wrap=True, markup=False, highlight=False)
    if destination is None:
        return
    if single:
        from training.files import write_json

        # A single diagnoser on a corpus has nothing to be put beside: its figures as they are.
        flat = suite is None and len(report["runs"]) == 1
        write_json(destination, report["runs"][0] if flat else report)
        out.print(f"all figures: {destination}", highlight=False)
        return
    write(report, destination)
    out.print(
        f"written to {destination}: metrics.json, metrics.md and plots", soft_wrap=True, highlight=False
    )


def on_suite(folders: list[Path], suite: str, options: dict[str, Any]) -> dict[str, Any]:
    """The report of diagnosers on a suite by name, or on ``all``."""
    from diagnoser.evaluate_suite import ALL, evaluate_all, evaluate_suite

    if suite == ALL:
        return evaluate_all(folders, **options)
    return evaluate_suite(folders, suite, **options)


def on_corpus(folders: list[Path], corpus: Path, split: str, options: dict[str, Any]) -> dict[str, Any]:
    """The report of diagnosers on a split of a corpus folder.

    Raises:
        DataError: the diagnosers are for different tasks, or the split holds no clips of it.
    """
    from diagnoser.evaluate import task_of
    from diagnoser.evaluate_suite import evaluate_parts
    from diagnoser.suites import SuitePart
    from resp229k.audio import Preprocess
    from resp229k.corpus import Corpus

    tasks = {task_of(folder) for folder in folders}
    if len(tasks) > 1:
        raise DataError(f"the diagnosers are for different tasks: {', '.join(sorted(tasks))}")
    part = SuitePart(split, Corpus.open(corpus), tasks.pop(), Preprocess())
    return evaluate_parts(folders, [part], split=split, **options)


def write(report: dict[str, Any], folder: Path) -> None:
    """Write a report as JSON, Markdown and pictures; of all suites, each into a folder of its own."""
    from diagnoser.evaluate_page import index_page, page
    from diagnoser.evaluate_plot import plot
    from diagnoser.evaluate_suite import folder_of
    from training.files import write_json, write_text

    write_json(folder / "metrics.json", report)
    if "suites" in report:
        write_text(folder / "metrics.md", index_page(report))
        for name, one in report["suites"].items():
            write(one, folder / folder_of(name))
        return
    write_text(folder / "metrics.md", page(report))
    plot(report, folder)


def _print(name: str | None, report: dict[str, Any]) -> None:
    from diagnoser.evaluate_page import class_rows, facts, rows

    out.print(f"{name or report['task']}, {report['split']}", style="bold", highlight=False)
    for line in facts(report):
        out.print(line, soft_wrap=True, markup=False, highlight=False)
    print_rows(rows(report), markdown=False)
    print_rows(class_rows(report), markdown=False)


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
