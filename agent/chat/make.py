"""Tools that make or measure something and take their time: ``generate``, ``evaluate`` and ``round``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agent.chat.job import Arguments, Job, Result
from agent.chat.place import Place
from agent.config import PlannerName
from training.errors import ConfigError, RunError

FEW = 4  # clips that are made without asking


class Generate(Arguments):
    """Arguments of ``generate``."""

    label: str = Field(description="Class to synthesize.")
    style: str = Field(description="Recording whose style (device, noise, room) the clips take.")
    out: str = Field(description="A new folder.")
    number: int = Field(default=1, ge=1, le=200)
    task: str = "disease16"
    seconds: float = Field(default=4.0, gt=0, le=60)
    events: str | None = Field(default=None, description="Heard in 10 s, such as: 12 crackle, 2 wheeze")
    weights: str = Field(default="tiny", description="Shipped set, or a folder.")
    seed: int = Field(default=0, ge=0)


class Evaluate(Arguments):
    """Arguments of ``evaluate``."""

    model: str | None = Field(
        default=None, description="Folder of a diagnoser or run; null: the newest run in runs/."
    )
    corpus: str | None = Field(default=None, description="Corpus folder, such as RUN/corpus; or give suite.")
    suite: str | None = Field(default=None, description="Suite of real recordings, such as spr2icbhi.")
    split: Literal["train", "select", "plan", "valid", "test"] = "test"
    out: str | None = Field(default=None, description="A new folder for figures and plots; null: none.")


class Round(Arguments):
    """Arguments of ``round``."""

    config: str = Field(default="quickstart", description="Preset or YAML file; with resume the run's own.")
    run: str = Field(description="A new folder for the run, such as runs/first; with resume the run's.")
    planners: list[PlannerName] | None = Field(default=None, min_length=1, max_length=9)
    budget: int | None = Field(default=None, ge=1, le=10_000, description="Clips to add.")
    seed: int | None = Field(default=None, ge=0)
    resume: bool = Field(default=False, description="Go on with an interrupted run.")


def generate(args: Generate, place: Place) -> Job:
    """Synthetic clips, as ``resp-agent generate`` makes them."""
    from resp229k.tasks import get_task

    get_task(args.task).index(args.label)
    style, folder, weights = place.recording(args.style), place.fresh(args.out), place.shipped(args.weights)

    def run() -> Result:
        from agent.cli.generate import make_clips

        files = make_clips(
            args.label,
            style,
            folder,
            task=args.task,
            number=args.number,
            seconds=args.seconds,
            weights=weights,
            events=args.events,
            seed=args.seed,
        )
        return Result({"written": len(files), "folder": str(folder), "files": [file.name for file in files]})

    question = f"generate {args.number} clips of {args.label} into {folder}"
    return Job(run, question if args.number > FEW or place.above(folder) else None)


def evaluate(args: Evaluate, place: Place) -> Job:
    """Scores on a split of a corpus or on a suite, as ``resp-agent evaluate`` gives them."""
    from agent.cli.evaluate import find_diagnoser, on_corpus, on_suite, write

    if (args.corpus is None) == (args.suite is None):
        raise ConfigError("give either a corpus or a suite", cure="name one of the two")
    if args.suite is not None:
        from diagnoser.suites import get_suite

        get_suite(args.suite)
    corpus = None if args.corpus is None else place.inside(args.corpus)
    destination = None if args.out is None else place.fresh(args.out)
    folder = find_diagnoser(None if args.model is None else place.inside(args.model))

    def run() -> Result:
        from diagnoser.evaluate_page import class_rows, facts, rows

        options: dict[str, Any] = {"allow_contaminated": False, "draws": 1000}
        if corpus is not None:
            report = on_corpus([folder], corpus, args.split, options)
        else:
            assert args.suite is not None
            places = {"root": "${RESP_DATA}", "work": Path("cache/suites")}
            report = on_suite([folder], args.suite, options | places)
        if destination is not None:
            write(report, destination)
        figures, classes = rows(report), class_rows(report)
        told = {"facts": facts(report), "figures": figures, "recall_by_class": classes}
        return Result(told | {"written": None if destination is None else str(destination)}, figures)

    on = f"suite {args.suite}" if corpus is None else f"{corpus}, split {args.split}"
    return Job(run, f"evaluate {folder} on {on}")


def one_round(args: Round, place: Place) -> Job:
    """One round of the loop from corpus to test, as ``resp-agent loop`` runs it."""
    from agent.config import LoopConfig
    from training.config import load_config
    from training.run import CONFIG

    if args.resume:
        folder, changes = place.inside(args.run), []
        if args.planners or args.budget or args.seed is not None:
            raise RunError("a run is resumed as it was begun", cure="leave out planners, budget and seed")
        if not (folder / CONFIG).is_file():
            raise RunError("there is no run to resume", path=folder, cure="start it without resume")
        source = str(folder / CONFIG)
    else:
        folder, source = place.fresh(args.run), place.shipped(args.config)
        chosen = {"budget": args.budget, "seed": args.seed}
        changes = ["rounds=1", *(f"{name}={value}" for name, value in chosen.items() if value is not None)]
        changes += [] if args.planners is None else [f"planners=[{', '.join(args.planners)}]"]
    config = load_config(LoopConfig, source, changes)
    asked = (config.llm.base_url, config.llm.key_env)
    if "llm" in config.planners and config.llm.replay is None and asked != place.endpoint:
        # A file that somebody else wrote could send any variable of the environment anywhere.
        raise RunError(
            f"its planner llm asks {asked[0]} with the key of {asked[1]}, not what this chat asks",
            path=source,
            cure="start it yourself with resp-agent loop, or let the config name the chat's llm.base_url and "
            "llm.key_env",
        )

    def run() -> Result:
        from agent.cli.loop import loop
        from agent.runs import show_run

        loop(None, config=source, override=changes, run=folder, resume=args.resume)
        return Result(_summed(show_run(folder)) | {"run": str(folder)})

    what = "go on with" if args.resume else "run"
    return Job(
        run,
        f"{what} {config.rounds} round(s) of {config.name}: {config.task}, {config.budget} clips per round, "
        f"planners {', '.join(config.planners)}, into {folder}",
    )


def _summed(found: dict[str, Any]) -> dict[str, Any]:
    """What a run did: per planner its rounds and its scores on test."""
    results = found["results"]
    if results is None:
        return {"state": found["state"]}
    planners = {}
    for planner, record in results["planners"].items():
        planners[planner] = {
            "rounds": [_round(one) for one in record["rounds"]],
            "test": record["test"]["metrics"],
        }
    return {"state": found["state"], "task": results["task"], "tail": results["tail"], "planners": planners}


def _round(record: dict[str, Any]) -> dict[str, Any]:
    validation = record.get("validation") or {}
    kept = {name: record[name] for name in ("round", "method", "gate", "planned", "added") if name in record}
    marks = {name: True for name in ("fallback", "edited", "rolled_back", "stood_in") if record.get(name)}
    scores = {name: validation.get(name) for name in ("macro_f1", "tail_macro_f1")}
    return kept | marks | {"on_plan_split": scores}
