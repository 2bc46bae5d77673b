"""``resp-agent loop``."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import Override


def loop(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Run to go on with, with `--resume`.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="A preset (`small-spr2icbhi`, …) or a YAML file; by default `quickstart`, "
            "or the config of the run that is resumed."
        ),
    ] = None,
    override: Override = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder; by default `runs/<name of the config>`.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    approve: Annotated[
        bool, typer.Option("--approve", help="Stop before clips are made, to show and edit the plan.")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(help="Run whose archived replies planner `llm` plans with, without any server."),
    ] = None,
) -> None:
    """Run the curriculum loop: diagnose, plan, synthesize, screen, retrain, validate; test once.

    SIGTERM and Ctrl-C finish the step under way (a training is stopped) and say how to go on; so does any
    crash leave a run that can be resumed.

    **Examples**

        resp-agent loop --config quickstart

        resp-agent loop --resume runs/quickstart

        resp-agent loop --approve --run runs/approved

        resp-agent loop --config small-spr2icbhi -o seed=1 --run runs/spr2icbhi-1

        resp-agent loop -o planners=[llm] -o llm.base_url=http://127.0.0.1:11434/v1 -o llm.model=qwen3
    """
    from agent.config import LoopConfig
    from training.config import load_config
    from training.errors import RunError
    from training.run import CONFIG

    if folder is not None:
        if not resume or run is not None:
            raise RunError(
                "is given without need", path=folder, cure="use `--resume RUN`, or `--run RUN` alone"
            )
        run = folder
    changes = [*(override or []), *(["curriculum.approve=true"] if approve else [])]
    if replay is not None:
        if not replay.is_dir():
            raise RunError("there is no run to replay", path=replay, cure="give a run folder with --replay")
        changes = [*changes, f"llm.replay={json.dumps(str(replay))}"]
    if config is None and resume and run is not None:
        if not (run / CONFIG).is_file():
            raise RunError("there is no run to resume", path=run, cure="start it without --resume")
        config = str(run / CONFIG)
    settings = load_config(LoopConfig, config or "quickstart", changes)
    if "llm" in settings.planners and settings.llm.replay is None and not resume:
        from agent.llm import check_endpoint

        check_endpoint(settings.llm)
    from agent.loop import Waiting, run_loop

    # A plan that waits for approval is no failure: the user has been told how to go on.
    with suppress(Waiting):
        run_loop(settings, run or Path("runs") / settings.name, resume=resume)
