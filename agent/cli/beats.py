"""``resp-agent beats``: what the audio representation knows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli import beats_compare
from agent.cli.options import Markdown, check_folder, out, print_rows

if TYPE_CHECKING:
    from beats.probe import ProbeReport, ProbeRow

app = typer.Typer(
    help="Probe an audio encoder and its units, or compare recipes of them.", no_args_is_help=True
)
app.command()(beats_compare.compare)


@app.callback()
def _commands() -> None:
    """Probe an audio encoder and its units, or compare recipes of them."""


@app.command()
def probe(
    weights: Annotated[
        str, typer.Option(help="Folder of encoder and tokenizer, shipped set, or published tokenizer file.")
    ] = "tiny/beats",
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="simulated, sprsound, icbhi, spr2icbhi or icbhi2spr, repeatable; `all` by default."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, each with folds of its own.")] = 3,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for `probe.json` and `probe.png`.")
    ] = None,
    root: Annotated[str, typer.Option(help="Folder of the recordings as published.")] = "${RESP_DATA}",
    work: Annotated[Path, typer.Option(help="Folder that keeps the built corpora.")] = Path("cache/probe"),
    bandwidth: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=7999,
            help="Hz that all clips are cut to; 0 is as recorded. By default 2000 in the cross-corpus suites.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=60, help="Clips of a part of a suite, at most.")] = 1000,
    markdown: Markdown = False,
) -> None:
    """Probe features and units on subjects that the weights never heard.

    Means and standard deviations are over seeds, intervals over test subjects. `kept` is the gain of the
    bag of units over chance by that of the features. Simulated clips have sources of their own, but share
    the simulator's grammar with the clips that the shipped weights were trained on.

    **Examples**

        resp-agent beats probe --suite simulated

        RESP_DATA=~/data resp-agent beats probe --out runs/probe
    """
    from beats.probe_data import SUITES, check_suites

    names = list(SUITES) if "all" in (suite or ["all"]) else list(dict.fromkeys(suite or []))
    check_suites(names, root)
    if out_folder is not None:
        check_folder(out_folder)
    import beats

    path = beats.find(weights)
    from beats.probe import heard_by, report_of
    from beats.probe import probe as run
    from beats.probe_data import load_sets

    encoder, quantizer = beats.load(path)
    heard = heard_by(encoder, quantizer)
    sets = load_sets(names, work=work, root=root, without=heard, limit=limit, bandwidth=bandwidth)
    rows = run(sets, encoder, quantizer, seeds=seeds)
    # The last two parts: shipped sets are called by them, and a user's folders stay private.
    called = "/".join(Path(weights).parts[-2:])
    report = report_of(called, sets, encoder, quantizer, rows, seeds)
    _print(report, markdown)
    if out_folder is not None:
        from beats.probe_plot import plot_probes
        from training.files import write_json

        write_json(out_folder / "probe.json", report.model_dump(mode="json"))
        plot_probes(rows, out_folder / "probe.png")
        out.print(f"written to {out_folder / 'probe.json'} and probe.png", soft_wrap=True, highlight=False)


def _print(report: ProbeReport, markdown: bool) -> None:
    for name, suite in report.suites.items():
        parts = dict.fromkeys(part for counts in suite.classes.values() for part in counts)
        classes = ", ".join(
            f"{label} {' + '.join(str(counts[part]) for part in parts)}"
            for label, counts in suite.classes.items()
        )
        band = "as recorded" if suite.bandwidth is None else f"up to {suite.bandwidth:g} Hz"
        _say(f"{name}: {suite.task}, {suite.clips:,} clips of {suite.subjects} subjects, {band}")
        _say(f"classes ({' + '.join(parts)}): {classes}")
        for label, reason in suite.left_out.items():
            _say(f"left out: {label}: {reason}")
        rows = [row for row in report.rows if row.suite == name]
        _table(rows, markdown)
        for row in rows:
            for number, book in enumerate(row.codebooks, start=1):
                which = "" if len(row.codebooks) == 1 else f" {number}"
                _say(
                    f"codebook{which}: perplexity {book.perplexity:.1f} of {book.codebook}, {book.dead} dead"
                )
        out.print()


def _table(rows: Sequence[ProbeRow], markdown: bool) -> None:
    table: list[Sequence[str]] = [("probe", "balanced accuracy", "95 %", "AUROC", "kept", "95 % of kept")]
    for row in rows:
        table.append(
            (
                row.representation,
                f"{row.balanced_accuracy.mean:.3f} ± {row.balanced_accuracy.std:.3f}",
                _range(row.interval),
                f"{row.auroc.mean:.3f} ± {row.auroc.std:.3f}",
                "" if row.kept is None else f"{row.kept:.2f}",
                _range(row.kept_interval),
            )
        )
    table.append(("chance", f"{rows[0].chance:.3f}", "", "0.500", "", ""))
    print_rows(table, markdown)


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.2f} – {interval[1]:.2f}"


def _say(text: str) -> None:
    out.print(text, soft_wrap=True, markup=False, highlight=False)
