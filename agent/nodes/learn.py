"""``retrain``, ``validate`` and ``test``: the diagnoser of a round and what it is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.nodes.prepare import read_facts
from agent.state import LoopState
from agent.work import Work
from training.files import read_json, write_json


def retrain(work: Work, state: LoopState) -> dict[str, Any]:
    """Train the round's diagnoser in a process of its own, through the command that users call."""
    facts = read_facts(work, state)
    config = work.config
    warm = config.diagnoser.warm_start and state["round"] > 0
    inputs = {
        "corpus": facts["corpus"],
        "weights": work.rooms.weights_digest(),
        "task": config.task,
        "preprocess": config.preprocess.model_dump(mode="json"),
        "diagnoser": config.diagnoser.model_dump(mode="json"),
        "seed": config.seed,
        "threads": config.threads,
        "synthetic": state["synthetic"],
        "repeats": read_json(work.path(state["repeats"])) if state["repeats"] else {},
        "init": state["model"] if warm else None,
    }

    def make(folder: Path) -> dict[str, Any]:
        work.rooms.train_diagnoser(
            folder,
            synthetic=state["synthetic"],
            repeats=state["repeats"],
            init=state["model"] if warm else None,
        )
        return {}

    folder, _ = work.once("retrain", state["round"], inputs, make)
    extra = sum(state["added"].values())
    note = f"{sum(facts['real'].values())} real training clips" + (f" + {extra}" if extra else "")
    return {"model": f"{folder}/model", "model_round": state["round"], "note": note}


def validate(work: Work, state: LoopState) -> dict[str, Any]:
    """Score the diagnoser on the ``plan`` split and close the round's record."""
    facts = read_facts(work, state)
    inputs = {"model": state["model"], "corpus": facts["corpus"], "tail": facts["tail"]}

    def make(folder: Path) -> dict[str, Any]:
        figures = work.rooms.score(work.path(state["model"]), facts["tail"], folder)
        write_json(folder / "metrics.json", figures)
        return figures

    folder, figures = work.once("validate", state["model_round"], inputs, make)
    record = {**state["pending"], "model": state["model"], "validation": figures}
    tail = figures["tail_macro_f1"]  # None when the plan split holds no tail class
    shown = f"macro-F1 {figures['macro_f1']:.3f}" + ("" if tail is None else f", tail {tail:.3f}") + " (plan)"
    return {
        "scores": [*state["scores"], {**figures, "folder": folder}],
        "records": [*state["records"], record],
        "note": shown,
    }


def test(work: Work, state: LoopState) -> dict[str, Any]:
    """Score the test split: once per planner, with its last diagnoser."""
    facts = read_facts(work, state)
    inputs = {
        "model": state["model"],
        "corpus": facts["corpus"],
        "tail": facts["tail"],
        "seed": work.config.seed,
        "synthetic": state["synthetic"],
    }

    def make(folder: Path) -> dict[str, Any]:
        write_json(folder / "test.json", work.rooms.evaluate(work.path(state["model"]), facts["tail"]))
        return {}

    folder, _ = work.once("test", state["model_round"], inputs, make)
    figures = read_json(work.path(folder) / "test.json")
    return {"test": folder, "note": f"test macro-F1 {figures['metrics']['macro_f1']['value']:.3f}"}
