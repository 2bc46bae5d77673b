"""``gate``, ``synthesize`` and ``screen``: from a plan to synthetic clips that may join training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.gate import GateReport, closed, decide, recall
from agent.nodes.clips import (
    PICKS,
    copies_of,
    requests_for,
    restyle_requests,
    run_screen,
    used_pairs,
    write_corpus,
    write_restyled,
)
from agent.nodes.plan import added
from agent.nodes.prepare import read_facts
from agent.planners import Plan, PlanItem, PlanRequest
from agent.rooms import UPPER_BOUND
from agent.screen import Checks, fingerprints
from agent.state import LoopState
from agent.work import Work
from resp229k.audio import load_audio
from resp229k.corpus import Corpus
from training.config import validate
from training.files import read_json, write_json
from training.seeds import derive


def gate(work: Work, state: LoopState) -> dict[str, Any]:
    """Judge probe clips of the generator; decide whether the budget is spent on it.

    The verdict depends on the weights and the corpus only, so it is reached once per run and every
    later round and planner reads the same folder.
    """
    facts = read_facts(work, state)
    config = work.config
    inputs = {
        "corpus": facts["corpus"],
        "weights": work.rooms.weights_digest(),
        "plannable": facts["plannable"],
        "tail": facts["tail"],
        "task": config.task,
        "gate": config.gate.model_dump(mode="json"),
        "screen": config.screen.model_dump(mode="json"),
        "generator": config.generator.model_dump(mode="json"),
        "seconds": config.preprocess.seconds,
        "seed": config.seed,
    }

    def make(folder: Path) -> dict[str, Any]:
        report = probe(work, facts, folder)
        write_json(folder / "gate.json", report.model_dump(mode="json"))
        return {"open": report.open, "reason": report.reason}

    folder, result = work.once("gate", 0, inputs, make)
    pending = {**state["pending"], "gate": "open" if result["open"] else "closed", "gate_folder": folder}
    work.run.event("gate", open=result["open"], reason=result["reason"], planner=state["planner"])
    word = "open" if result["open"] else "closed"
    note = f"{word}: {result['reason']}" + (f" [{UPPER_BOUND}]" if work.rooms.upper_bound else "")
    return {"gate": folder, "gate_open": result["open"], "pending": pending, "note": note}


def probe(work: Work, facts: dict[str, Any], folder: Path) -> GateReport:
    """Generate, write and screen probe clips, and compare the judge's recalls."""
    config, rooms = work.config, work.rooms
    if not facts["plannable"]:
        return closed(
            f"generator and judge share no class of {config.task} with the training clips",
            config.gate,
            upper_bound=rooms.upper_bound,
        )
    corpus = Corpus.open(work.path("corpus"))
    train = corpus.subset(split="train", task=config.task)
    items = [PlanItem(label=n, count=config.gate.probe, reason="probe") for n in facts["plannable"]]
    seed = derive(config.seed, "gate")
    settings = config.generator.model_copy(update={"candidates": 1.0})
    requests = requests_for(items, train, config.task, settings, seed=seed, partners={})
    probes = write_corpus(work, requests, folder / "probe", "probe", seed)
    run_screen(work, probes, {(i.label, None): i.count for i in items}, folder / "screened", Checks())
    classes = rooms.judge_classes()
    waves = [load_audio(probes.folder / c.path, silent_ok=True) for c in probes.clips]
    generated = recall(
        [c.labels[config.task] for c in probes.clips], rooms.judge(waves), classes, facts["tail"]
    )
    held = [
        c for c in corpus.subset(split="plan", task=config.task).clips if c.labels[config.task] in classes
    ]
    real = recall(
        [c.labels[config.task] for c in held],
        rooms.judge([corpus.audio(c) for c in held]),
        classes,
        facts["tail"],
    )
    return decide(
        real, generated, config.gate, facts["tail"], judge_classes=len(classes), upper_bound=rooms.upper_bound
    )


def synthesize(work: Work, state: LoopState) -> dict[str, Any]:
    """Make the plan's clips, a few more than planned so that the screen can choose.

    The generator makes them, or real clips are restyled, as the plan's method says.
    """
    facts = read_facts(work, state)
    config = work.config
    plan = validate(Plan, state["plan"], where="the graph's state")
    request = validate(PlanRequest, state["request"], where="the graph's state")
    restyles = plan.method == "restyle"
    partners = {c.label: c.partner for c in request.classes}
    # Restyling goes on where the last round stopped, so its order of pairs must not change.
    order = derive(config.seed, "restyle") if restyles else derive(config.seed, "synthesize", state["round"])
    seed = derive(config.seed, "synthesize", state["round"])
    used = used_pairs(state["records"], config.generator) if restyles else {}
    inputs = {
        "method": plan.method,
        "items": [[i.label, i.count, i.style, i.pick] for i in plan.items],
        "partners": {i.label: partners.get(i.label) for i in plan.items if i.style == "confused-with"},
        "corpus": facts["corpus"],
        "weights": work.rooms.weights_digest(),
        "generator": config.generator.model_dump(mode="json"),
        "task": config.task,
        "seconds": config.preprocess.seconds,
        "seed": seed,
        "used": [[*key, count] for key, count in sorted(used.items())],
    }

    def make(folder: Path) -> dict[str, Any]:
        train = Corpus.open(work.path("corpus")).subset(split="train", task=config.task)
        given: dict[str, Any] = {"seed": order, "partners": partners}
        if restyles:
            requests = restyle_requests(plan.items, train, config.task, config.generator, **given, used=used)
        else:
            requests = requests_for(plan.items, train, config.task, config.generator, **given)
        # Ids must differ between rounds and planners, and be the same when the work is repeated.
        prefix = f"syn-{folder.name.removesuffix('.tmp').rpartition('-')[2]}"
        write = write_restyled if restyles else write_corpus
        write(work, requests, folder / "corpus", prefix, seed)
        return {"clips": len(requests)}

    folder, result = work.once("synthesize", state["round"], inputs, make)
    label = f" [{UPPER_BOUND}]" if work.rooms.upper_bound and not restyles else ""
    return {"candidates": folder, "note": f"{result['clips']} candidates{label}"}


def screen(work: Work, state: LoopState) -> dict[str, Any]:
    """Keep the best candidates of each class; say why the others went."""
    plan = validate(Plan, state["plan"], where="the graph's state")
    candidates = Corpus(work.path(state["candidates"]) / "corpus", [])
    picks = (candidates.folder / PICKS).is_file()
    planned: dict[tuple[str, Any], int] = {}
    for item in plan.items:
        planned[item.label, item.pick] = planned.get((item.label, item.pick), 0) + item.count
    inputs = {
        "candidates": state["candidates"],
        "planned": [[*group, count] for group, count in planned.items()],
        "weights": work.rooms.weights_digest(),
        "screen": work.config.screen.model_dump(mode="json"),
        "model": state["model"] if picks else None,
        "seed": work.config.seed,
        "earlier": state["synthetic"],
    }

    def make(folder: Path) -> dict[str, Any]:
        corpus = Corpus.open(candidates.folder)
        report = run_screen(work, corpus, planned, folder, _checks(work, state, corpus))
        return {"kept": report.kept, "short": report.short}

    folder, result = work.once("screen", state["round"], inputs, make)
    kept: dict[str, int] = result["kept"]
    update = added(state, {name: count for name, count in kept.items() if count})
    update["pending"] |= {"short": result["short"], "screen": folder}
    note = f"{sum(kept.values())} of {plan.budget} planned clips kept"
    if any(kept.values()):
        update["synthetic"] = [*state["synthetic"], f"{folder}/corpus"]
    return {**update, "note": note}


def _checks(work: Work, state: LoopState, corpus: Corpus) -> Checks:
    """What the screen asks: restyled clips are copies and on class by nature, the simulator heard no clip."""
    restyles = state["plan"]["method"] == "restyle"
    clips = {c.clip_id: c for c in corpus.clips}

    def losses(ids: Sequence[str]) -> np.ndarray:
        part = Corpus(corpus.folder, [clips[name] for name in ids])
        return work.rooms.losses(work.path(state["model"]), part)

    looks = work.config.screen.copies and not restyles and not work.rooms.upper_bound
    return Checks(
        copied=copies_of(work) if looks else None,
        losses=losses,
        judged=not restyles,
        seed=work.config.seed,
        earlier=_earlier(work, state),
    )


def _earlier(work: Work, state: LoopState) -> tuple[list[str], np.ndarray] | None:
    """Ids and fingerprints of the clips that earlier rounds kept."""
    corpora = [Corpus.open(work.path(folder)) for folder in state["synthetic"]]
    if not corpora:
        return None
    waves = [load_audio(corpus.folder / clip.path) for corpus in corpora for clip in corpus.clips]
    return [clip.clip_id for corpus in corpora for clip in corpus.clips], fingerprints(waves)


def read_gate(work: Work, folder: str) -> GateReport:
    """The gate's report in a node folder."""
    return validate(GateReport, read_json(work.path(folder) / "gate.json"), where=folder)
