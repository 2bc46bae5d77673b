"""Tools that read what a run left behind: ``plan`` and ``confusion``. Figures only, none of the test split."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from agent.chat.job import Arguments, Job, Result
from agent.chat.place import Place
from agent.config import RuleName
from training.config import validate
from training.errors import DataError
from training.files import read_json

MOST = 12  # pairs of classes
UNNAMED = "unnamed source"


class ShowPlan(Arguments):
    """Arguments of ``plan``."""

    run: str = Field(description="Run folder.")
    planner: RuleName | None = Field(
        default=None, description="Make a plan with it; null: show the run's newest plan."
    )
    budget: int | None = Field(default=None, ge=1, le=10_000, description="Clips; null: as the run.")


class Confusion(Arguments):
    """Arguments of ``confusion``."""

    run: str = Field(description="Run folder.")
    label: str | None = Field(default=None, description="One class; null: all.")


def plan(args: ShowPlan, place: Place) -> Job:
    """A plan from the run's newest error profile, or the one that the run made of it. Nothing is written."""
    from agent.config import LoopConfig
    from agent.planners import Plan, PlanRequest, make_plan
    from training.config import load_config
    from training.run import CONFIG

    folder = place.inside(args.run)
    if args.planner is None and args.budget is not None:
        raise DataError("a plan that is shown has its own budget", cure="name a planner to make a new one")
    newest = _newest(folder, "plan", "plan.json")
    wanted = _input(newest, "request")

    def run() -> Result:
        request = validate(PlanRequest, wanted, where=str(newest))
        if args.budget is not None:
            request = request.model_copy(update={"budget": args.budget})
        if args.planner is None:
            made = _agreed(newest) or validate(Plan, read_json(newest / "plan.json"), where=str(newest))
        else:
            made = make_plan(args.planner, request, load_config(LoopConfig, folder / CONFIG).thinker)
        known = [c for c in request.classes if c.real or c.support]  # the task may have more
        weakest = sorted(known, key=lambda c: (c.f1, c.label))
        return Result(
            {
                "shown_or_made": "shown" if args.planner is None else "made, not carried out",
                "round": request.round,
                "plan": made.model_dump(mode="json"),
                "profile": [_class(c) for c in weakest],
            }
        )

    return Job(run)


def _class(c: Any) -> dict[str, Any]:
    figures = {name: round(getattr(c, name), 3) for name in ("f1", "recall", "confidence")}
    return {
        "label": c.label,
        "support": c.support,
        "real": c.real,
        "extra": c.extra,
        "tail": c.tail,
    } | figures


def confusion(args: Confusion, place: Place) -> Job:
    """Which classes a run's newest diagnoser mixes up on the plan split, and in which sources."""
    newest = _newest(place.inside(args.run), "validate", "predictions.npz")

    def run() -> Result:
        from diagnoser.predictions import Predictions
        from diagnoser.profile import error_profile

        found = Predictions.load(newest / "predictions.npz")
        if args.label is not None and args.label not in found.classes:
            raise DataError("no such class", cure=f"classes are {', '.join(found.classes)}")
        profile = error_profile(found, _input(newest, "tail"))
        mine = [c for c in profile.classes if args.label in (None, c.label)]
        return Result(
            {
                "split": "plan",
                "clips": profile.clips,
                "subjects": profile.subjects,
                "macro_f1": profile.macro_f1,
                "classes": [c.model_dump(mode="json") for c in mine],
                "mixed_up": pairs(found, args.label),
            }
        )

    return Job(run)


def pairs(found: Any, label: str | None) -> list[dict[str, Any]]:
    """The most frequent confusions, each with the clips of the true class and the errors by source.

    Args:
        found: predictions of N clips.
        label: only pairs of this class; None: of all.
    """
    # An id without a source in front is a person's, and leaves no machine.
    sources = [name.split(":", 1)[0] if ":" in name else UNNAMED for name in found.subject_ids]
    truth = [found.classes[index] for index in found.labels]
    guess = [found.classes[index] for index in found.guesses]
    rows = list(zip(truth, guess, sources, strict=True))
    wrong = Counter((t, g) for t, g, _ in rows if t != g and label in (None, t, g))
    told = []
    for (true, taken), count in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:MOST]:
        clips = Counter(source for t, _, source in rows if t == true)
        errors = Counter(source for t, g, source in rows if (t, g) == (true, taken))
        by_source = {s: {"clips": clips[s], "taken_for": errors[s]} for s in sorted(clips)}
        told.append({"class": true, "taken_for": taken, "clips": count, "by_source": by_source})
    return told


def _agreed(folder: Path) -> Any:
    """What the user made of the plan in a node's folder, and the run carried out; none where nobody was asked."""
    from agent.planners import Plan

    mine = read_json(folder / "plan.json")
    for path in sorted(folder.parent.glob("approve-*/plan.json")):
        if (path.parent / "done.json").is_file() and _input(path.parent, "plan") == mine:
            return validate(Plan, read_json(path), where=str(path))
    return None


def _input(folder: Path, name: str) -> Any:
    """A thing that a node was given.

    Raises:
        DataError: its folder does not say.
    """
    path = folder / "inputs.json"
    found = read_json(path)
    if not isinstance(found, dict) or name not in found:
        raise DataError(f"does not hold the {name} of a step", path=path, cure="run the round again")
    return found[name]


def _newest(run: Path, node: str, file: str) -> Path:
    """The finished folder of a node in the latest round that holds the file.

    Raises:
        DataError: there is none.
    """
    found = [path.parent for path in run.glob(f"rounds/[0-9][0-9]/{node}-*/{file}")]
    found = [path for path in found if (path / "done.json").is_file()]
    if not found:
        raise DataError(
            "holds no run that has come so far",
            path=run,
            cure="give the folder of a run, or run a round first",
        )
    return max(found, key=lambda p: (p.parent.name, (p / "done.json").stat().st_mtime, p.name))
