"""A comparison as JSON, Markdown, CSV and a plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.files import write_json, write_text

CHALLENGE_TASKS = ("11", "12", "21", "22")
SHOWN = (
    *("score", "se", "sp"),
    *(f"task{task}_score" for task in CHALLENGE_TASKS),
    *("macro_f1", "tail_macro_f1", "accuracy", "auroc", "ece"),
)
NAMES = {"score": "Score", "se": "Se", "sp": "Sp", "macro_f1": "macro-F1", "tail_macro_f1": "tail macro-F1",
         "auroc": "AUROC", "ece": "ECE"}  # fmt: skip
NAMES |= {f"task{task}_score": f"challenge {'-'.join(task)}" for task in CHALLENGE_TASKS}
PLOTTED = ("score", "macro_f1")


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write ``results.json``, ``results.md``, ``results.csv`` and ``results.png``."""
    write_json(out / "results.json", report)
    write_text(out / "results.md", markdown(report))
    with (out / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=CSV_FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(csv_rows(report))
    plot(report, out / "results.png")


def shown(report: dict[str, Any], judged: str = "clips") -> list[str]:
    """Scores of the table: Sp, Se and Score for tasks of sounds, no empty columns."""
    rows = report["figures"][judged].values()
    skipped = () if report["main"] == "score" else ("score", "se", "sp")
    return [
        name
        for name in SHOWN
        if name not in skipped and any(row["scores"].get(name, {}).get("mean") is not None for row in rows)
    ]


def table(report: dict[str, Any], judged: str = "clips") -> list[list[str]]:
    """Header and rows: mean ± std over seeds, the main score's interval, and how far it is from the diagnoser's."""
    names, main, reference = shown(report, judged), report["main"], report["reference"]
    lead = [NAMES.get(main, main), "95 % over subjects", *([f"against {reference}"] if reference else [])]
    lines = [["row", *lead, *(NAMES.get(n, n) for n in names if n != main), "parameters", "seconds"]]
    for row, found in report["figures"][judged].items():
        scores = found["scores"]
        difference = scores[main].get("difference")
        cells = [_spread(scores[main]), _interval(scores[main])]
        if reference:
            cells.append("" if difference is None else _signed(difference))
        cells += [_spread(scores[name]) for name in names if name != main]
        lines.append([row, *cells, *_cost(report, row)])
    return lines


def markdown(report: dict[str, Any]) -> str:
    """Every table of a comparison, with what it stands on."""
    parts = ", ".join(
        f"{part['name']} ({part['train']['clips']} train, {part['select']['clips']} select, "
        f"{part['test']['clips']} test clips of {part['test']['subjects']} subjects)"
        for part in report["parts"]
    )
    lines = [f"# {report['title']}: {report['task']}", "", f"Parts: {parts}.", ""]
    if report["contaminated"]:
        lines += [
            f"CONTAMINATED: the encoder was trained on {report['contaminated']} of the test subjects.",
            "",
        ]
    if report["left_out"]:
        lines += [f"Left out: {report['left_out']} test subjects that the encoder was trained on.", ""]
    for judged in report["figures"]:
        lines += [f"## By {judged}", ""]
        header, *rows = table(report, judged)
        lines += [_line(header), _line(["---"] * len(header)), *map(_line, rows), ""]
    lines += [
        "Mean ± standard deviation (n - 1) over seeds. Intervals and differences redraw subjects (95 %), the mean",
        "over seeds held fixed; a difference whose interval holds 0 is none.",
        "",
    ]
    return "\n".join(lines)


CSV_FIELDS = ("judged", "row", "score", "mean", "std", "low", "high", "difference", "difference_low",
              "difference_high", "values")  # fmt: skip


def csv_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One line per what is judged, row and score."""
    found = []
    for judged, rows in report["figures"].items():
        for row, one in rows.items():
            for name, score in one["scores"].items():
                apart = score.get("difference") or {"mean": None, "interval": [None, None]}
                values = (judged, row, name, score["mean"], score["std"], *score["interval"], apart["mean"],
                          *apart["interval"], " ".join(str(value) for value in score["values"]))  # fmt: skip
                found.append(dict(zip(CSV_FIELDS, values, strict=True)))
    return found


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw a dot per seed and the interval over subjects, row by row, dashed at the diagnoser."""
    from matplotlib.figure import Figure  # imported late: tables alone need no plotting

    rows, reference = report["figures"]["clips"], report["reference"]
    names = [name for name in PLOTTED if name in shown(report)]
    figure = Figure(figsize=(4.2 * len(names) + 2, 0.36 * len(rows) + 1.4), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        for place, (row, found) in enumerate(rows.items()):
            score = found["scores"][name]
            colour = "C1" if row == reference else "C0"
            values = [value for value in score["values"] if value is not None]
            if None not in score["interval"]:
                axis.plot(score["interval"], [place, place], color=colour, alpha=0.4, linewidth=5)
            axis.plot(values, [place] * len(values), ".", color=colour)
        if reference and (level := rows[reference]["scores"][name]["mean"]) is not None:
            axis.axvline(level, color="C1", linestyle="--", linewidth=1)
        axis.set_xlabel(NAMES.get(name, name))
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(len(rows)), list(rows))
    figure.axes[0].invert_yaxis()
    figure.suptitle(f"{report['title']}: dots are seeds, bars 95 % over subjects")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _spread(score: dict[str, Any]) -> str:
    if score["mean"] is None:
        return ""
    std = "" if score["std"] is None else f" ± {score['std']:.3f}"
    return f"{score['mean']:.3f}{std}"


def _interval(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    return "" if low is None else f"{low:.3f} – {high:.3f}"


def _signed(difference: dict[str, Any]) -> str:
    low, high = difference["interval"]
    if difference["mean"] is None or low is None:
        return ""
    return f"{difference['mean']:+.3f} ({low:+.3f} … {high:+.3f})"


def _cost(report: dict[str, Any], row: str) -> list[str]:
    """Trainable parameters and mean seconds of a training; empty where there are none."""
    notes = [one["notes"] for one in report["trainings"] if one["row"] == row]
    parameters = notes[0].get("parameters")
    seconds = np.mean([one["seconds"] for one in notes])
    return ["" if parameters is None else f"{parameters:,}", f"{seconds:.0f}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
