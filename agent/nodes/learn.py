"""``retrain``, ``validate`` and ``test``: the diagnoser of a round and what it is worth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from agent.curriculum import forgot, share_of, synthetic_weight
from agent.nodes.prepare import read_facts
from agent.state import KEPT, LoopState
from agent.work import Work
from resp229k.corpus import Corpus
from training.files import read_json, write_json


def retrain(work: Work, state: LoopState) -> dict[str, Any]:
    """Train the round's diagnoser in a process of its own, through the command that users call."""
    facts = read_facts(work, state)
    config = work.config
    warm = config.diagnoser.warm_start and state["round"] > 0
    weight = _synthetic_weight(work, state, facts)
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
        "synthetic_weight": weight,
    }

    def make(folder: Path) -> dict[str, Any]:
        work.rooms.train_diagnoser(
            folder,
            synthetic=state["synthetic"],
            repeats=state["repeats"],
            init=state["model"] if warm else None,
            synthetic_weight=weight,
        )
        return {}

    folder, _ = work.once("retrain", state["round"], inputs, make)
    extra = sum(state["added"].values())
    note = f"{sum(facts['real'].values())} real training clips" + (f" + {extra}" if extra else "")
    if weight != config.diagnoser.synthetic_weight:
        note += f", synthetic ones weigh {weight:.2f}"
    return {"model": f"{folder}/model", "model_round": state["round"], "note": note}


def _synthetic_weight(work: Work, state: LoopState, facts: dict[str, Any]) -> float:
    """What the round's share makes of the weight of synthetic clips."""
    config = work.config
    share = share_of(config.curriculum, state["round"])
    if share is None or not state["synthetic"]:
        return config.diagnoser.synthetic_weight
    real: Counter[str] = Counter(facts["real"])
    if state["repeats"]:
        copies = read_json(work.path(state["repeats"]))
        for clip in Corpus.open(work.path("corpus")).subset(split="train", task=config.task).clips:
            real[clip.labels[config.task]] += copies.get(clip.clip_id, 0)
    made: Counter[str] = Counter()
    for folder in state["synthetic"]:
        made.update(Corpus.open(work.path(folder)).counts(config.task))
    return synthetic_weight(share, real, made, config.diagnoser)


def validate(work: Work, state: LoopState) -> dict[str, Any]:
    """Score the diagnoser on the ``plan`` split, close the round's record, and keep or roll back."""
    facts = read_facts(work, state)
    inputs = {"model": state["model"], "corpus": facts["corpus"], "tail": facts["tail"]}

    def make(folder: Path) -> dict[str, Any]:
        figures = work.rooms.score(work.path(state["model"]), facts["tail"], folder)
        write_json(folder / "metrics.json", figures)
        return figures

    folder, figures = work.once("validate", state["model_round"], inputs, make)
    guard = _guard(work, state, folder)
    back = guard is not None and forgot(guard)
    record = {
        **state["pending"],
        "model": state["model"],
        "validation": figures,
        "scored": folder,
        "rolled_back": back,
    }
    tail = figures["tail_macro_f1"]  # None when the plan split holds no tail class
    shown = f"macro-F1 {figures['macro_f1']:.3f}" + ("" if tail is None else f", tail {tail:.3f}") + " (plan)"
    score = {**figures, "folder": folder}
    if guard is not None:
        record["guard"] = guard
    if guard is not None and back:
        text = "{difference:+.3f} [{low:+.3f}, {high:+.3f}]".format(**guard)
        shown += f"; rolled back to round {state['kept']['model_round']}: {text}"
        work.run.event("rolled_back", planner=state["planner"], round=state["round"], **guard)
        score = state["scores"][-1]
    stands = state["kept"] if back else {name: state[name] for name in KEPT}  # type: ignore[literal-required]
    return {
        **stands,
        "kept": stands,
        "scores": [*state["scores"], score],
        "records": [*state["records"], record],
        "note": shown,
    }


def _guard(work: Work, state: LoopState, folder: str) -> dict[str, float] | None:
    """Difference to the diagnoser before the round; None where the guard is off or none was trained."""
    if not work.config.curriculum.guard or state["round"] == 0 or state["model"] == state["kept"]["model"]:
        return None
    return work.rooms.difference(work.path(folder), work.path(state["scores"][-1]["folder"]))


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
        found = work.rooms.evaluate(work.path(state["model"]), facts["tail"], folder)
        write_json(folder / "test.json", found)
        return {}

    folder, _ = work.once("test", state["model_round"], inputs, make)
    figures = read_json(work.path(folder) / "test.json")
    return {"test": folder, "note": f"test macro-F1 {figures['metrics']['macro_f1']['value']:.3f}"}
