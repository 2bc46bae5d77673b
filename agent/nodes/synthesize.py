"""``gate``, ``synthesize`` and ``screen``: from a plan to synthetic clips that may join training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.gate import GateReport, closed, decide, recall
from agent.nodes.clips import requests_for, run_screen, write_corpus
from agent.nodes.plan import added
from agent.nodes.prepare import read_facts
from agent.planners import Plan, PlanItem
from agent.rooms import UPPER_BOUND
from agent.screen import ScreenReport
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
    requests = requests_for(items, train, config.task, factor=1.0, seed=seed)
    probes = write_corpus(work, requests, folder / "probe", "probe", seed)
    run_screen(work, probes, {item.label: item.count for item in items}, folder / "screened")
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
    """Generate the plan's clips, a few more than planned so that the screen can choose."""
    facts = read_facts(work, state)
    config = work.config
    plan = validate(Plan, state["plan"], where="the graph's state")
    seed = derive(config.seed, "synthesize", state["round"])
    inputs = {
        "items": [[i.label, i.count, i.style] for i in plan.items],
        "corpus": facts["corpus"],
        "weights": work.rooms.weights_digest(),
        "generator": config.generator.model_dump(mode="json"),
        "task": config.task,
        "seconds": config.preprocess.seconds,
        "seed": seed,
    }

    def make(folder: Path) -> dict[str, Any]:
        train = Corpus.open(work.path("corpus")).subset(split="train", task=config.task)
        requests = requests_for(plan.items, train, config.task, factor=config.generator.candidates, seed=seed)
        # Ids must differ between rounds and planners, and be the same when the work is repeated.
        prefix = f"syn-{folder.name.removesuffix('.tmp').rpartition('-')[2]}"
        write_corpus(work, requests, folder / "corpus", prefix, seed)
        return {"clips": len(requests)}

    folder, result = work.once("synthesize", state["round"], inputs, make)
    label = f" [{UPPER_BOUND}]" if work.rooms.upper_bound else ""
    return {"candidates": folder, "note": f"{result['clips']} candidates{label}"}


def screen(work: Work, state: LoopState) -> dict[str, Any]:
    """Keep the best candidates of each class; say why the others went."""
    plan = validate(Plan, state["plan"], where="the graph's state")
    inputs = {
        "candidates": state["candidates"],
        "planned": plan.counts,
        "weights": work.rooms.weights_digest(),
        "screen": work.config.screen.model_dump(mode="json"),
    }

    def make(folder: Path) -> dict[str, Any]:
        corpus = Corpus.open(work.path(state["candidates"]) / "corpus")
        report = run_screen(work, corpus, plan.counts, folder)
        return {"kept": report.kept, "short": report.short}

    folder, result = work.once("screen", state["round"], inputs, make)
    kept: dict[str, int] = result["kept"]
    update = added(state, {name: count for name, count in kept.items() if count})
    update["pending"] |= {"short": result["short"], "screen": folder}
    note = f"{sum(kept.values())} of {plan.budget} planned clips kept"
    if any(kept.values()):
        update["synthetic"] = [*state["synthetic"], f"{folder}/corpus"]
    return {**update, "note": note}


def read_gate(work: Work, folder: str) -> GateReport:
    """The gate's report in a node folder."""
    return validate(GateReport, read_json(work.path(folder) / "gate.json"), where=folder)


def read_screen(work: Work, folder: str) -> ScreenReport:
    """The screen's report in a node folder."""
    return validate(ScreenReport, read_json(work.path(folder) / "screen.json"), where=folder)
