"""A comparison of generator designs as tables, files and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from agent.config_designs import DesignsConfig
from agent.designs import Measured
from agent.generated.compare import GENERATOR, REAL
from agent.generated.table import FEW
from training.files import write_json, write_text
from training.statistics import plus_minus

FIGURES = {
    "recall_ratio": "judge recall / real",
    "recall_ratio_tail": "tail",
    "tstr_ratio": "trained on it / on real",
    "diversity": "diversity",
    "memorised": "memorised",
    "fad_ratio": "FAD / real to real",
    "fad_clips": "clips in FAD",
    "texture_ratio": "texture",
    "modulation_db": "modulation, dB",
}
Rows = list[list[str]]


def grouped(found: Sequence[Measured]) -> dict[str, list[Measured]]:
    """Trainings by design, in the order they came."""
    groups: dict[str, list[Measured]] = {}
    for one in found:
        groups.setdefault(one.design, []).append(one)
    return groups


def compute_table(found: Sequence[Measured]) -> Rows:
    """Parameters and processor time of every design; a header first."""
    lines = [["design", "parameters", "Resp-MLLM s", "flow decoder s", "together s"]]
    for name, group in grouped(found).items():
        parameters = sum(part["parameters"] for part in group[0].compute.values())
        seconds = [
            [one.compute.get(part, {}).get("seconds", 0.0) for one in group] for part in ("mllm", "flow")
        ]
        times = [plus_minus(values, 0) for values in (*seconds, np.sum(seconds, axis=0))]
        lines.append([name, f"{parameters:,.0f}", *times])
    return lines


def table(found: Sequence[Measured], what: str) -> Rows:
    """Figures of every design in one comparison, and of real clips; mean ± std over seeds."""
    names = [name for name in FIGURES if any(name in one.results[what][GENERATOR] for one in found)]
    lines = [["design", *(FIGURES[name] for name in names)]]
    for design, group in grouped(found).items():
        rows = [one.results[what][GENERATOR] for one in group]
        lines.append([design, *_cells(rows, names)])
    real = {one.seed: one.results[what][REAL] for one in found}.values()
    lines.append(["real clips", *_cells(list(real), names)])
    return lines


def _cells(rows: Sequence[dict[str, float]], names: Sequence[str]) -> list[str]:
    found = []
    for name in names:
        values = [row[name] for row in rows if name in row]
        found.append(f"{np.mean(values):.0f}" if name == "fad_clips" else plus_minus(values, 3))
    return found


def doubts(found: Sequence[Measured], what: str) -> list[str]:
    """What speaks against trusting a column, one sentence each."""
    fewest = min(one.results[what][GENERATOR]["fad_clips"] for one in found)
    if fewest >= FEW:
        return []
    return [f"FAD of {fewest:.0f} clips holds mostly the chance of so few, as that of real to real does."]


def write(found: Sequence[Measured], config: DesignsConfig, clips: int, out: Path) -> None:
    """Write ``designs.json``, ``designs.md`` and ``designs.png``."""
    rows = [asdict(one) for one in found]
    write_json(out / "designs.json", {"config": config.model_dump(mode="json"), "clips": clips, "runs": rows})
    parts = ["# Designs of the generator"]
    for name in grouped(found):
        parts.append(f"- **{name}**: {config.designs[name].why}")
    parts += ["## Compute", lines(compute_table(found))]
    for what in found[0].results:
        parts += [f"## {what}", *doubts(found, what), lines(table(found, what))]
    write_text(out / "designs.md", "\n\n".join(parts) + "\n")
    plot(found, out / "designs.png")


def lines(rows: Rows) -> str:
    """A Markdown table."""
    cells = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def plot(found: Sequence[Measured], path: Path) -> None:
    """Draw validation curves over processor time, and the judge's recall of every design, a dot per seed."""
    from matplotlib.figure import Figure  # imported late: tables alone need no plotting

    groups, comparisons = grouped(found), list(found[0].results)
    figure = Figure(figsize=(4.2 * (2 + len(comparisons)), 4.2), layout="constrained")
    axes = figure.subplots(1, 2 + len(comparisons), squeeze=False)[0]
    for place, (name, group) in enumerate(groups.items()):
        for axis, part in zip(axes, ("mllm", "flow"), strict=False):
            for one in group:
                marks = [entry for entry in one.histories.get(part, []) if "metric" in entry]
                if marks:
                    last = max(entry["step"] for entry in one.histories[part])
                    seconds = [e["step"] / last * one.compute[part]["seconds"] for e in marks]
                    label = name if one is group[0] else None
                    axis.plot(seconds, [-e["metric"] for e in marks], ".-", color=f"C{place}", label=label)
        for axis, what in zip(axes[2:], comparisons, strict=True):
            values = [one.results[what][GENERATOR]["recall_ratio"] for one in group]
            axis.barh(place, np.mean(values), color=f"C{place}", alpha=0.4)
            axis.plot(values, [place] * len(values), ".", color=f"C{place}")
    for axis, title in zip(axes, ("Resp-MLLM, nats per unit", "flow decoder, loss"), strict=False):
        axis.set_title(f"{title}, held-out clips")
        axis.set_xlabel("processor time, s")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize="small")
    for axis, what in zip(axes[2:], comparisons, strict=True):
        axis.set_title(f"{what}: judge recall / real")
        axis.set_yticks(range(len(groups)), list(groups))
        axis.axvline(1.0, color="black", linestyle="--", linewidth=1)
        axis.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
