"""Figures of codecs as a table and a picture."""

from __future__ import annotations

from pathlib import Path

from generator.codec_eval import CodecReport, log_mel
from resp229k.audio import RATE

HEADER = (
    "codec", "log-mel dB", "FAD", "crackle ms", "95 %", "found", "extra", "CPU s per s",
)  # fmt: skip


def table(report: CodecReport) -> list[tuple[str, ...]]:
    """A header, and a row for each codec."""
    rows: list[tuple[str, ...]] = [HEADER]
    for row in report.rows:
        late = row.crackles
        rows.append(
            (
                row.name,
                f"{row.mel_db:.2f}",
                f"{row.fad:.3f}",
                "–" if late.median_ms is None else f"{late.median_ms:.2f}",
                "–" if late.late_ms is None else f"{late.late_ms:.2f}",
                f"{late.found:.3f}",
                f"{late.extra:.3f}",
                f"{row.cost:.3f}",
            )
        )
    return rows


def notes(report: CodecReport) -> list[str]:
    """What a reader of the table must know."""
    crackles = report.rows[0].crackles.crackles
    return [
        f"{report.clips} recordings, {report.seconds:.0f} s; FAD of one half of them to the other: "
        f"{report.halves:.3f}",
        f"log-mel: mean difference of BEATs's filterbank; crackles: {crackles} rendered at known times, "
        "median and 95th percentile of |error| of those found within 20 ms",
    ]


def markdown(report: CodecReport) -> str:
    """The table with its notes."""
    head, *rows = table(report)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    body = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return body + "\n" + "".join(f"{note}.\n" for note in notes(report))


def plot(report: CodecReport, path: Path) -> None:
    """Log-mel of the first recordings as codecs are compared by, a row for each codec, 60 dB deep."""
    from matplotlib.figure import Figure

    names, columns = [row.name for row in report.rows], len(report.examples)
    figure = Figure(figsize=(4.2 * columns, 2.0 * len(names) + 0.6), layout="constrained")
    axes = figure.subplots(len(names), columns, squeeze=False, sharex="col", sharey=True)
    for column, example in enumerate(report.examples):
        for axis, name in zip(axes[:, column], names, strict=True):
            decibels = log_mel(example[name]).T
            extent = (0.0, example[name].size / RATE, 0.0, float(len(decibels)))
            axis.imshow(decibels, origin="lower", aspect="auto", extent=extent)
            axis.set_title("recording" if name == "none" else name, fontsize="small")
        axes[-1, column].set_xlabel("s")
    for axis in axes[:, 0]:
        axis.set_ylabel("mel bin")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
