"""``diagnose``, ``plan``, ``fallback`` and ``duplicate``: from the error profile to what is added."""

from __future__ import annotations

import heapq
from pathlib import Path
from typing import Any, cast

import numpy as np

from agent.config import PlannerName
from agent.nodes.clips import used_pairs
from agent.nodes.prepare import read_facts, read_screen
from agent.nodes.references import draws
from agent.planners import SYNTHESIZING, ClassState, Plan, PlanRequest, make_plan
from agent.state import LoopState
from agent.work import Work
from diagnoser.profile import ErrorProfile
from resp229k.corpus import Corpus
from training.config import validate
from training.files import read_json, write_json
from training.seeds import derive


def diagnose(work: Work, state: LoopState) -> dict[str, Any]:
    """Open a round: write the error profile of the current diagnoser on the ``plan`` split."""
    number = state["round"] + 1
    facts = read_facts(work, state)
    scored = state["scores"][-1]["folder"]
    inputs = {"predictions": scored, "tail": facts["tail"]}

    def make(folder: Path) -> dict[str, Any]:
        profile = work.rooms.error_profile(work.path(scored), facts["tail"])
        write_json(folder / "profile.json", profile.model_dump(mode="json"))
        return {"weakest": min(profile.classes, key=lambda c: (c.f1, c.label)).label}

    folder, result = work.once("diagnose", number, inputs, make)
    profile = validate(ErrorProfile, read_json(work.path(folder) / "profile.json"), where=folder)
    request = plan_request(work, profile, facts, state)
    return {
        "round": number,
        "left": state["left"] - 1,
        "profile": folder,
        "request": request.model_dump(mode="json"),
        "note": f"weakest class: {result['weakest']}",
    }


def plan_request(work: Work, profile: ErrorProfile, facts: dict[str, Any], state: LoopState) -> PlanRequest:
    """What the planner may know: the profile, the training counts, and what earlier rounds brought."""
    config = work.config
    train = Corpus.open(work.path("corpus")).subset(split="train", task=config.task).clips
    figures = {c.label: c for c in profile.classes}
    measured = measured_gains(work, state)
    screens = [read_screen(work, r["screen"]) for r in state["records"] if "screen" in r]
    used = used_pairs(state["records"], config.generator)
    first = {c["label"]: c["first_confidence"] for c in state.get("request", {}).get("classes", [])}
    classes = []
    for label in sorted(facts["real"]):
        mine = figures.get(label)
        support = mine.support if mine else 0
        confusions = mine.confused_with if mine else {}
        confidence = mine.confidence if mine else 0.0
        gains = measured.get(label, [])
        known = ClassState(
            label=label,
            support=support,
            f1=mine.f1 if mine else 0.0,
            f1_error=mine.f1_error if mine else None,
            recall=mine.recall if mine else 0.0,
            confidence=confidence,
            confidence_error=mine.confidence_error if mine else None,
            first_confidence=first.get(label, confidence),
            confused=mine.false_negatives / support if mine and support else 0.0,
            confusions=confusions,
            real=facts["real"][label],
            extra=state["added"].get(label, 0),
            tail=label in facts["tail"],
            single_source=len(facts["sources"][label]) == 1 and len(facts["train_sources"]) > 1,
            gains=[gain for gain, _ in gains],
            gain_errors=[error for _, error in gains],
            screened=sum(r.generated.get(label, 0) for r in screens),
            rejected=sum(r.rejected.get(label, 0) for r in screens),
        )
        limits = draws(label, train, config.task, known.partner)
        limits["restyle"] = {s: max(0, n - used.get((label, s), 0)) for s, n in limits["restyle"].items()}
        classes.append(known.model_copy(update={"draws": limits}))
    return PlanRequest(
        budget=config.budget,
        classes=classes,
        plannable=sorted(facts["plannable"]),
        round=state["round"] + 1,
        rolled_back=[r["round"] for r in state["records"] if r.get("rolled_back", False)],
        seed=config.seed,
    )


def measured_gains(work: Work, state: LoopState) -> dict[str, list[tuple[float, float]]]:
    """Per class the change of its F1, with standard error, in each earlier round that gave it clips.

    A round that was rolled back has been measured like any other: it says what does harm. One that fell back
    to duplicates behind a closed gate says nothing of the planner's own clips.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for record in state["records"]:
        number, given = record["round"], {n for n, count in record["added"].items() if count > 0}
        if number == 0 or not given or "scored" not in record or record.get("fallback", False):
            continue
        before = state["scores"][number - 1]["folder"]
        gains = work.rooms.gains(work.path(record["scored"]), work.path(before))
        for label in sorted(given & set(gains)):
            found.setdefault(label, []).append(gains[label])
    return found


def plan(work: Work, state: LoopState) -> dict[str, Any]:
    """Share out the round's budget."""
    planner = cast(PlannerName, state["planner"])
    made, folder = _write_plan(work, state, "plan", planner)
    update = _opened(state, made)
    update["pending"]["stood_in"] = planner == "llm" and _gave_up(work.path(folder))
    return {"plan": made.model_dump(mode="json"), **update, "note": _plan_note(made)}


def _gave_up(folder: Path) -> bool:
    """Whether the model gave no plan, so that the thinker planned in its place."""
    from agent.llm.archive import ARCHIVE

    return read_json(folder / ARCHIVE)["given_up"] is not None


def fallback(work: Work, state: LoopState) -> dict[str, Any]:
    """The gate is closed: the same budget goes to duplicates of real clips."""
    made, _ = _write_plan(work, state, "fallback", "oversample")
    update = _opened(state, made)
    update["pending"] |= {"fallback": True, "gate": "closed", "gate_folder": state["gate"]}
    return {
        "plan": made.model_dump(mode="json"),
        **update,
        "note": f"gate closed: oversample instead of {state['planner']}",
    }


def _write_plan(work: Work, state: LoopState, node: str, planner: PlannerName) -> tuple[Plan, str]:
    """The plan, and the node's folder."""
    request = validate(PlanRequest, state["request"], where="the graph's state")
    if planner in SYNTHESIZING and not request.plannable:
        # Nothing can be synthesized: plan over all classes; the gate will be closed and say why.
        request = request.model_copy(update={"plannable": [c.label for c in request.classes]})
    settings = work.config.thinker
    inputs = {
        "planner": planner,
        "request": request.model_dump(mode="json"),
        "thinker": settings.model_dump(mode="json"),
    }
    if planner == "llm":
        inputs["llm"] = work.config.llm.identity()

    def make(folder: Path) -> dict[str, Any]:
        if planner == "llm":
            from agent.llm import plan_llm

            made = plan_llm(request, settings, work.config.llm, folder)
        else:
            made = make_plan(planner, request, settings)
        write_json(folder / "plan.json", made.model_dump(mode="json"))
        return {}

    folder, _ = work.once(node, state["round"], inputs, make)
    return validate(Plan, read_json(work.path(folder) / "plan.json"), where=folder), folder


def _opened(state: LoopState, made: Plan) -> dict[str, Any]:
    """The record of the round under way."""
    return {
        "pending": {
            "round": state["round"],
            "method": made.method,
            "planned": made.counts,
            "items": [item.model_dump(mode="json") for item in made.items],
            "added": {},
        }
    }


def _plan_note(made: Plan) -> str:
    if not made.items:
        return f"nothing is added: {made.note}" if made.note else "nothing is added"
    return ", ".join(f"{name} {count}" for name, count in made.counts.items())


def duplicate(work: Work, state: LoopState) -> dict[str, Any]:
    """Draw real training clips again: least repeated first, ties in a seeded order."""
    facts = read_facts(work, state)
    counts = validate(Plan, state["plan"], where="the graph's state").counts
    before: dict[str, int] = read_json(work.path(state["repeats"])) if state["repeats"] else {}
    seed = derive(work.config.seed, "duplicate", state["round"])
    inputs = {"counts": counts, "before": before, "corpus": facts["corpus"], "seed": seed}

    def make(folder: Path) -> dict[str, Any]:
        train = Corpus.open(work.path("corpus")).subset(split="train", task=work.config.task)
        ids: dict[str, list[str]] = {}
        for clip in train.clips:
            ids.setdefault(clip.labels[work.config.task], []).append(clip.clip_id)
        write_json(folder / "repeats.json", draw_repeats(ids, counts, before, seed))
        return {}

    folder, _ = work.once("duplicate", state["round"], inputs, make)
    return {
        "repeats": f"{folder}/repeats.json",
        **added(state, counts),
        "note": f"{sum(counts.values())} copies of real clips",
    }


def draw_repeats(
    ids: dict[str, list[str]], counts: dict[str, int], before: dict[str, int], seed: int
) -> dict[str, int]:
    """Extra copies per clip id after adding ``counts`` per class to ``before``."""
    repeats = dict(before)
    for label, count in sorted(counts.items()):
        order = sorted(ids[label])
        np.random.default_rng(derive(seed, label)).shuffle(order)
        queue = [(repeats.get(name, 0), place, name) for place, name in enumerate(order)]
        heapq.heapify(queue)
        for _ in range(count):
            copies, place, name = heapq.heappop(queue)
            repeats[name] = copies + 1
            heapq.heappush(queue, (copies + 1, place, name))
    return dict(sorted(repeats.items()))


def added(state: LoopState, counts: dict[str, int]) -> dict[str, Any]:
    """State update after ``counts`` clips per class were added."""
    total = dict(state["added"])
    for label, count in counts.items():
        total[label] = total.get(label, 0) + count
    return {"added": total, "pending": {**state["pending"], "added": dict(sorted(counts.items()))}}
