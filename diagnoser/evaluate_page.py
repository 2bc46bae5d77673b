"""An evaluation as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NAMES = {
    "sp": "Sp",
    "se": "Se",
    "score": "Score",
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "tail_macro_f1": "tail macro-F1",
    "macro_recall": "macro recall",
    "auroc": "AUROC, one against rest",
    "auroc_abnormal": "AUROC, abnormal against normal",
    "ece": "ECE",
    "ece_raw": "ECE before temperature",
    "brier": "Brier",
    "brier_raw": "Brier before temperature",
    **{
        f"task{task}_{score}": f"SPRSound {task[0]}-{task[1]} {name}"
        for task in ("11", "12", "21", "22")
        for score, name in (("se", "SE"), ("sp", "SP"), ("as", "AS"), ("hs", "HS"), ("score", "Score"))
    },
}
PLOTS = (("confusion.png", "Confusion"), ("reliability.png", "Reliability"), ("sources.png", "Sources"))


def page(report: dict[str, Any]) -> str:
    """The report of :mod:`diagnoser.evaluate_suite` as a Markdown page."""
    runs, first = report["runs"], report["runs"][0]
    lines = [f"# {report.get('suite') or report['task']}, {report['split']}", ""]
    lines += [f"{line}  " for line in facts(report)] + [""]
    lines += [*_table(rows(report)), ""]
    lines += ["## Recall by class", "", *_table(class_rows(report)), ""]
    if len(first["per_source"]) > 1:
        lines += ["## By source", "", *_table(_block_rows(runs, "per_source")), ""]
    for name, title in (
        ("per_subject", "Vote of each subject's clips"),
        ("seen_only", "Clips of classes that were trained on"),
        ("seen_only_per_subject", "Vote of each subject's clips, classes that were trained on"),
    ):
        if name in first:
            lines += [f"## {title}", "", *_table(_single_rows(runs, name)), ""]
    lines += [f"![{title}]({file})" for file, title in PLOTS]
    return "\n".join(lines) + "\n"


def index_page(report: dict[str, Any]) -> str:
    """The report of all suites: what each is headed by, and what was left out."""
    lines = ["# Suites", ""]
    table: list[list[str]] = [["suite", "clips", "subjects", "runs", "macro-F1", "Score"]]
    for name, one in report["suites"].items():
        found, first = one["summary"]["figures"], one["runs"][0]
        sizes = [str(first["clips"]), str(first["subjects"]), str(one["summary"]["runs"])]
        table.append([name, *sizes, spread(found.get("macro_f1")), spread(found.get("score"))])
    lines += [*_table(table), ""]
    if report["skipped"]:
        lines += ["Not scored:", "", *[f"- {name}: {why}" for name, why in report["skipped"].items()], ""]
    return "\n".join(lines)


def facts(report: dict[str, Any]) -> list[str]:
    """What has to be said beside the figures, one sentence each."""
    runs, first = report["runs"], report["runs"][0]
    how = first["preprocess"]
    band = "as recorded" if how["bandwidth"] is None else f"up to {how['bandwidth']:g} Hz"
    found = [
        f"{first['clips']} clips of {first['subjects']} subjects, {len(runs)} run(s); {how['seconds']:g} s, "
        f"{how['fit']}, {band}."
    ]
    for run in runs:
        if run["contaminated"]:
            found.append(
                f"CONTAMINATED: {run['contaminated']['subjects']} test subjects were trained or selected on."
            )
    if not report.get("prepared_as_suite", True):
        found.append("The diagnosers do not hear clips as the suite prepares them.")
    if any(run["clips"] != first["clips"] for run in runs):
        found.append("The runs cover different clips: parts are missing.")
    if len(first["models"]) < len(report["parts"]):
        found.append(f"Covers {len(first['models'])} of {len(report['parts'])} parts.")
    if first["shared_subjects"]:
        found.append(f"As published: {first['shared_subjects']} subjects may be on both sides of the test.")
    found.append("Tail (under 1 % of the training clips): " + (", ".join(first["tail"]) or "none") + ".")
    if first["unseen"]:
        found.append("In the test, never trained on: " + ", ".join(first["unseen"]) + ".")
    return found


def rows(report: dict[str, Any]) -> list[list[str]]:
    """Header and a row per figure: mean ± std over runs, interval over subjects, the majority's figure."""
    prior, found = report["runs"][0]["source_prior"], report["summary"]["figures"]
    table = [["figure", "mean ± std", "95 % over subjects", f"always {prior['class']}"]]
    for name, title in NAMES.items():
        if name in found:
            table.append([title, spread(found[name]), span(found[name]["interval"]), _shown(prior.get(name))])
    return table


def class_rows(report: dict[str, Any]) -> list[list[str]]:
    """Header and a row per class of the test: recall of every run, and the interval of the first."""
    runs = report["runs"]
    table = [["class", "clips", *[_run_name(run, place) for place, run in enumerate(runs)], "95 %"]]
    for name, support in runs[0]["support"].items():
        recalls = [_shown(run["recall"].get(name)) for run in runs]
        table.append([name, str(support), *recalls, span(runs[0]["recall_intervals"][name])])
    return table


def spread(figure: dict[str, Any] | None) -> str:
    """Mean ± standard deviation, the latter where there are several runs."""
    if figure is None:
        return ""
    return _shown(figure["mean"]) + ("" if figure["std"] is None else f" ± {figure['std']:.3f}")


def span(interval: Sequence[float | None] | None) -> str:
    """An interval, empty where it is not defined."""
    if interval is None or interval[0] is None:
        return ""
    return f"{interval[0]:.3f} – {interval[1]:.3f}"


def _block_rows(runs: Sequence[dict[str, Any]], name: str) -> list[list[str]]:
    table = [["run", "source", "clips", "subjects", "accuracy", "macro-F1", "95 % of macro-F1", "Score"]]
    for place, run in enumerate(runs):
        for source, block in run[name].items():
            table.append([_run_name(run, place), source, *_block(block)])
    return table


def _single_rows(runs: Sequence[dict[str, Any]], name: str) -> list[list[str]]:
    table = [["run", "rows", "subjects", "accuracy", "macro-F1", "95 % of macro-F1", "Score"]]
    table += [[_run_name(run, place), *_block(run[name])] for place, run in enumerate(runs) if name in run]
    return table


def _block(block: dict[str, Any]) -> list[str]:
    return [
        str(block["clips"]),
        str(block["subjects"]),
        _shown(block["accuracy"]),
        _shown(block["macro_f1"]),
        span(block["intervals"]["macro_f1"]),
        _shown(block.get("score")),
    ]


def _run_name(run: dict[str, Any], place: int) -> str:
    return f"run {place}" if run["seed"] is None else f"seed {run['seed']}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    body = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in body]
