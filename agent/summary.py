"""What a run found, apart from when and where it ran."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from agent.nodes.prepare import read_facts
from agent.nodes.synthesize import read_gate
from agent.rooms import UPPER_BOUND
from agent.state import LoopState
from agent.work import Work
from training.files import read_json

PACKAGES = ("resp-agent-lab", "torch", "transformers", "langgraph", "numpy", "scikit-learn")
RECORD: dict[str, Any] = {
    "round": 0,
    "method": "",
    "gate": None,  # open or closed, where it was asked
    "fallback": False,  # the gate was closed: oversample took the budget
    "stood_in": False,  # the model of planner llm gave no plan, and the thinker planned
    "planned": {},
    "items": [],
    "added": {},
    "short": {},
    "validation": {},
    "edited": False,  # the user changed the plan
    "rolled_back": False,  # it did harm: its clips and its diagnoser were set aside
    "guard": None,  # difference in macro-F1 to the diagnoser before, with its interval, where it was asked
}


def make_results(work: Work, states: dict[str, LoopState]) -> dict[str, Any]:
    """The ``results`` block: equal for equal config, weights and data, with no time, host or path."""
    config = work.config
    first = next(iter(states.values()))
    facts = read_facts(work, first)
    gates = [s["gate"] for s in states.values() if s["gate"]]
    planners = {}
    for planner, state in states.items():
        test = read_json(work.path(state["test"] or "") / "test.json")
        planners[planner] = {
            "rounds": [{k: r.get(k, default) for k, default in RECORD.items()} for r in state["records"]],
            "added": dict(sorted(state["added"].items())),
            "test": test,
        }
    return {
        "name": config.name,
        "task": config.task,
        "seed": config.seed,
        "budget": config.budget,
        "upper_bound": UPPER_BOUND if work.rooms.upper_bound else None,
        "train": facts["real"],
        "tail": facts["tail"],
        "plannable": facts["plannable"],
        "gate": read_gate(work, gates[0]).model_dump(mode="json") if gates else None,
        "planners": planners,
    }


def environment() -> dict[str, Any]:
    """Versions and machine; nothing that names the host or its user."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    } | {"packages": found}


def timings(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds per node, summed over planners, rounds and resumed attempts."""
    nodes: dict[str, float] = {}
    for event in events:
        if event["event"] == "done":
            nodes[event["node"]] = round(nodes.get(event["node"], 0.0) + event["seconds"], 3)
    return {"nodes": nodes, "total": round(sum(nodes.values()), 3)}
