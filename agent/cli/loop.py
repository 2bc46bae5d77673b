"""``resp-agent loop``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import Override


def loop(
    config: Annotated[
        str, typer.Option(help="A preset (`quickstart`, `small-spr2icbhi`, …) or a YAML file.")
    ] = "quickstart",
    override: Override = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder; by default `runs/<name of the config>`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Run the curriculum loop: diagnose, plan, synthesize, screen, retrain, validate; test once.

    **Examples**

        resp-agent loop --config quickstart

        resp-agent loop --config quickstart --resume

        resp-agent loop --config small-spr2icbhi -o seed=1 --run runs/spr2icbhi-1
    """
    from agent.config import LoopConfig
    from training.config import load_config

    settings = load_config(LoopConfig, config, override or [])
    folder = run or Path("runs") / settings.name
    from agent.loop import run_loop

    run_loop(settings, folder, resume=resume)
