"""``resp-agent evaluate-generator``: generated clips against real ones that nobody has met."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import Draw, Markdown, Seed, check_folder, out, print_rows
from training.errors import ConfigError

SUITES = ("sprsound",)


def evaluate_generator(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for tables, figures, plots and page.")],
    weights: Annotated[str, typer.Option(help="Weights folder or shipped set.")] = "tiny",
    task: Annotated[
        str | None,
        typer.Option(help="Whose labels; `disease16` by default, `icbhi4` with `--suite sprsound`."),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Against simulated clips of new sources.")
    ] = False,
    suite: Annotated[
        str | None,
        typer.Option(help="Against real recordings: `sprsound`, events of children that no weights know."),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="Against the test split of a corpus folder; the rest is what was learned."),
    ] = None,
    clips: Annotated[int, typer.Option(min=4, help="Clips per class, row and seed, at most.")] = 64,
    seeds: Annotated[int, typer.Option(min=1, help="Halves of the test clips, and draws.")] = 3,
    seed: Seed = 0,
    tail: Annotated[
        list[str] | None, typer.Option(help="Class averaged apart, repeatable.", metavar="CLASS")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="Judge's folder; that of the weights by default.")] = None,
    beats: Annotated[
        str | None, typer.Option(help="BEATs that the weights were trained with, if it is not in them.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="BEATs that hears for FAD, diversity and Style-Sim; that of the weights by default."
        ),
    ] = None,
    train_clips: Annotated[
        int | None,
        typer.Option(
            min=1, help="Simulated training clips searched for copies, of each of their sets; all by default."
        ),
    ] = None,
    override: Draw = None,
    root: Annotated[str, typer.Option(help="Folder of the recordings as published.")] = "${RESP_DATA}",
    work: Annotated[
        Path, typer.Option(help="Keeps corpora and generated clips, which are not made again.")
    ] = Path("cache/generated"),
    markdown: Markdown = False,
) -> None:
    """Measure a generator: is its class heard, does it teach, does it vary, copy, keep the style?

    Rows: real clips as if they were generated, the same through the codec, their units decoded, the simulator (where it made the
    test clips), the generator, and noise in the style of the references. `-o` changes how the generator draws,
    e.g. `-o guidance=3`.
    Writes `results.json`, `results.md`, `page.html` and the plots. The first example takes about 45 minutes of one core,
    the second 10.

    **Examples**

        resp-agent evaluate-generator --simulated --out runs/generator

        RESP_DATA=~/data resp-agent evaluate-generator --suite sprsound --out runs/generator-real

        resp-agent evaluate-generator --simulated --clips 8 --seeds 1 --train-clips 300 --out runs/quick
    """
    if sum((simulated, suite is not None, corpus is not None)) != 1:
        raise ConfigError(
            "give one thing to compare with", cure="give --simulated, --suite sprsound or --corpus FOLDER"
        )
    if suite is not None and suite not in SUITES:
        raise ConfigError(f"unknown suite {suite!r}", cure=f"use one of: {', '.join(SUITES)}")
    check_folder(out_folder)
    from agent.generated.config import EvaluateConfig
    from generator.config import SampleConfig
    from training.config import load_config, validate

    given: dict[str, Any] = {
        "weights": weights,
        "task": task or ("disease16" if suite is None else "icbhi4"),
        "clips": clips,
        "seeds": seeds,
        "seed": seed,
        "beats": beats,
        "judge": judge,
        "encoder": encoder,
        "tail": tuple(tail) if tail else None,
        "train_clips": train_clips,
        "sample": load_config(SampleConfig, None, override or []),
    }
    config = validate(EvaluateConfig, given, where="evaluate-generator")
    what = "simulated" if simulated else suite or corpus
    assert what is not None
    from agent.generated.run import evaluate_generator as evaluate
    from agent.generated.run import write
    from agent.generated.table import bars, sections, words

    results, shown, sides = evaluate(config, what, root=root, work=work)
    write(results, shown, sides, out_folder)
    for sentence in words(results):
        out.print(sentence, highlight=False, markup=False)
    for title, rows in sections(results):
        out.print(f"\n{title}", markup=False, highlight=False)
        print_rows(rows, markdown, partial(by_name, rows[0]))
    found = bars(results)
    met = sum(bar["met"] is True for bar in found)
    out.print(f"{met} of {len(found)} release criteria met", highlight=False)
    out.print(
        f"written to {out_folder}: page.html, results.md, results.json", soft_wrap=True, highlight=False
    )


def by_name(header: Sequence[str], row: Sequence[str]) -> list[str]:
    """A row in words, for an output that is too narrow for the table."""
    return [", ".join(f"{name} {text}" for name, text in zip(header[1:], row[1:], strict=True) if text)]
