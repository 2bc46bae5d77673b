"""``resp-agent loop``."""

from __future__ import annotations

import json
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
    replay: Annotated[
        Path | None,
        typer.Option(help="Run whose archived replies planner `llm` plans with, without any server."),
    ] = None,
) -> None:
    """Run the curriculum loop: diagnose, plan, synthesize, screen, retrain, validate; test once.

    **Examples**

        resp-agent loop --config quickstart

        resp-agent loop --config quickstart --resume

        resp-agent loop --config small-spr2icbhi -o seed=1 --run runs/spr2icbhi-1

        resp-agent loop -o planners=[llm] -o llm.base_url=http://127.0.0.1:11434/v1 -o llm.model=qwen3
    """
    from agent.config import LoopConfig
    from training.config import load_config
    from training.errors import RunError

    changes = override or []
    if replay is not None:
        if not replay.is_dir():
            raise RunError("there is no run to replay", path=replay, cure="give a run folder with --replay")
        changes = [*changes, f"llm.replay={json.dumps(str(replay))}"]
    settings = load_config(LoopConfig, config, changes)
    folder = run or Path("runs") / settings.name
    from agent.loop import run_loop

    run_loop(settings, folder, resume=resume)
