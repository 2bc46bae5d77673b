"""``resp-agent beats compare``: recipes of the audio encoder at equal compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import Markdown, Override, check_folder, out, print_rows


def compare(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for table, figures and plot.")],
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="One recipe, repeatable, e.g. 'events, conv stem'; all by default."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of 'events, conv stem'; every recipe gets their compute.")
    ] = 1200,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per recipe.")] = 3,
    work: Annotated[
        Path, typer.Option(help="Keeps corpora and finished recipes, which are not repeated.")
    ] = Path("cache/compare"),
    override: Override = None,
    markdown: Markdown = False,
) -> None:
    """Train recipes of encoder and units at equal compute, probe each, print the table.

    The subjects are those that the shipped weights heard; `-o` changes `root`, `encoder_events`, `seconds`,
    `held_out` or `seed` of their clips. Compute is counted in floating-point operations of all of a recipe's
    trainings. Probes are on subjects that no recipe heard.

    **Examples**

        RESP_DATA=~/data resp-agent beats compare --out runs/recipes

        resp-agent beats compare --steps 20 --seeds 1 -o root=null -o encoder_events=300 --out runs/try
    """
    from agent.config_pretrain import HeardConfig
    from training.config import load_config

    data = load_config(HeardConfig, None, override or [])
    check_folder(out_folder)
    from agent.compare_beats import compare_beats, table
    from beats.compare import RECIPES, RecipeConfig

    config = RecipeConfig(steps=steps, seeds=seeds)
    rows = compare_beats(data, config, recipe or list(RECIPES), out_folder, work)
    print_rows(table(rows), markdown)
    out.print(f"written to {out_folder}", soft_wrap=True, highlight=False)
