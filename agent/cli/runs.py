"""``resp-agent runs``: what lies in a folder of runs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import Markdown, out, print_rows

app = typer.Typer(help="List, show and compare runs of the loop.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    folder: Annotated[Path, typer.Argument(help="Folder that holds the runs.")] = Path("runs"),
    as_json: Json = False,
    markdown: Markdown = False,
) -> None:
    """List the runs of a folder: their state, rounds, planners, best figures, age and size.

    The figures are of the test split, of the planner with the best macro-F1. Age is the time since the run's
    last event. A folder that is no run, or a broken one, is a row that says so.

    **Examples**

        resp-agent runs list

        resp-agent runs list /data/runs --json
    """
    from agent.runs import list_runs

    found = list_runs(folder)
    if as_json:
        return _print_json(found)
    if not found:
        out.print(f"no runs in {folder}", markup=False, highlight=False)
    rows = [["run", "state", "rounds", "planners", "best", "macro F1", "tail F1", "age", "size"]]
    return print_rows(rows + [_cells(row) for row in found], markdown)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    as_json: Json = False,
    markdown: Markdown = False,
) -> None:
    """Show a run: what each round planned and kept, and what that changed.

    While a run is not finished its steps are shown.

    **Examples**

        resp-agent runs show runs/quickstart
    """
    from agent.runs import show_run

    found = show_run(run)
    if as_json:
        return _print_json(found)
    out.print(f"{run}: {found['state']}, {found['task']}", markup=False, highlight=False, soft_wrap=True)
    if found["results"] is None:
        steps = [
            [s["planner"], str(s["round"]), s["node"], f"{s['seconds']:.1f}", s["note"]]
            for s in found["steps"]
        ]
        return print_rows([["planner", "round", "step", "seconds", "note"], *steps], markdown)
    rows = [["planner", "round", "method", "planned", "kept", "macro F1 (plan)", "tail F1 (plan)", "note"]]
    for planner, record in found["results"]["planners"].items():
        rows += [[planner, *_round(one)] for one in record["rounds"]]
    print_rows(rows, markdown)
    figures = [["planner", "test score", "value", "low", "high"]]
    for planner, record in found["results"]["planners"].items():
        for name, figure in record["test"]["metrics"].items():
            values = [_figure(figure.get(key)) for key in ("value", "low", "high")]
            figures.append([planner, name.replace("_", " "), *values])
    return print_rows(figures, markdown)


@app.command()
def diff(
    one: Annotated[Path, typer.Argument(help="Run folder.")],
    other: Annotated[Path, typer.Argument(help="Another run folder.")],
    as_json: Json = False,
    markdown: Markdown = False,
) -> None:
    """Show in what two runs differ: keys of the config, and the figures on test side by side.

    **Examples**

        resp-agent runs diff runs/quickstart runs/quickstart-seed1
    """
    from agent.runs import diff_runs

    found = diff_runs(one, other)
    if as_json:
        return _print_json(found)
    names = [one.name, other.name] if one.name != other.name else [str(one), str(other)]
    keys = [[key, *[_value(value) for value in pair]] for key, pair in found["config"].items()]
    if not keys:
        out.print("the configs are equal")
    print_rows([["config", *names], *keys], markdown)
    rows = [["planner", "test score", *names, "difference"]]
    for planner, scores in found["figures"].items():
        for name, (first, second) in scores.items():
            change = "–" if None in (first, second) else f"{second - first:+.3f}"
            rows.append([planner, name.replace("_", " "), _figure(first), _figure(second), change])
    return print_rows(rows, markdown)


def _print_json(value: Any) -> None:
    out.print(json.dumps(value, indent=2, ensure_ascii=False), soft_wrap=True, markup=False, highlight=False)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """A run as a row of the list; a folder that is no run has its state alone."""
    if "task" not in row:
        return [row["run"], row["state"], *[""] * 7]
    best = row["best"] or {}
    done = sum(row["closed"].values())
    return [
        row["run"],
        row["state"],
        f"{done} / {row['rounds'] * len(row['planners'])}",
        ", ".join(row["planners"]),
        best.get("planner", "–"),
        _figure(best.get("macro_f1")),
        _figure(best.get("tail_macro_f1")),
        "–" if row["last"] is None else _age(time.time() - row["last"]),
        f"{row['bytes'] / 1e6:.1f} MB",
    ]


def _round(record: Mapping[str, Any]) -> list[str]:
    validation = record.get("validation") or {}
    notes = [
        name.replace("_", " ")
        for name in ("fallback", "edited", "rolled_back", "stood_in")
        if record.get(name)
    ]
    return [
        str(record.get("round")),
        str(record.get("method")),
        _counts(record.get("planned")),
        _counts(record.get("added")),
        _figure(validation.get("macro_f1")),
        _figure(validation.get("tail_macro_f1")),
        ", ".join(notes),
    ]


def _counts(counts: Mapping[str, int] | None) -> str:
    return ", ".join(f"{name} {count}" for name, count in (counts or {}).items()) or "–"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
