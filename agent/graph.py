"""The loop as a LangGraph graph, one thread per planner, checkpointed in the run's SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from agent import nodes
from agent.state import LoopState, first_state
from agent.work import Work
from training.progress import console

Node = Callable[[Work, LoopState], dict[str, Any]]


class Step(Protocol):
    """A node as LangGraph calls it."""

    def __call__(self, state: LoopState) -> dict[str, Any]:
        """The update of the state."""
        ...


DATABASE = "checkpoints.sqlite"
STEPS_PER_ROUND = 12  # more than the nodes of one round; the true budget is the state's `left`


def build_graph(work: Work, saver: SqliteSaver | None = None) -> CompiledStateGraph:
    """Wire the nodes.

    ::

        prepare → retrain → validate ─┬→ diagnose → plan ─┬→ (nothing) → validate
                     ↑                │                   ├→ duplicate → retrain
                     │                └→ test → END       └→ gate ─┬→ synthesize → screen → retrain
                     └──────────────────────────────────────────── └→ fallback → duplicate
    """
    graph = StateGraph(LoopState)
    for name in nodes.__all__:
        graph.add_node(name, _step(work, name, getattr(nodes, name)))
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "retrain")
    graph.add_edge("retrain", "validate")
    graph.add_conditional_edges("validate", _more_rounds, ["diagnose", "test"])
    graph.add_edge("diagnose", "plan")
    graph.add_conditional_edges("plan", _after_plan, ["validate", "duplicate", "gate"])
    graph.add_conditional_edges("gate", _after_gate, ["synthesize", "fallback"])
    graph.add_edge("fallback", "duplicate")
    graph.add_edge("duplicate", "retrain")
    graph.add_edge("synthesize", "screen")
    graph.add_edge("screen", "retrain")
    graph.add_edge("test", END)
    return graph.compile(checkpointer=saver)


def _more_rounds(state: LoopState) -> str:
    return "diagnose" if state["left"] > 0 else "test"


def _after_plan(state: LoopState) -> str:
    return {"nothing": "validate", "duplicate": "duplicate", "synthesize": "gate"}[state["plan"]["method"]]


def _after_gate(state: LoopState) -> str:
    return "synthesize" if state["gate_open"] else "fallback"


def _step(work: Work, name: str, node: Node) -> Step:
    """A node with its events and its progress line."""

    def run(state: LoopState) -> dict[str, Any]:
        planner, before = state["planner"], len(work.fresh)
        work.run.event("start", node=name, planner=planner, round=state["round"])
        began = time.monotonic()
        update = node(work, state)
        seconds = time.monotonic() - began
        number, note = update.get("round", state["round"]), update.get("note", "")
        reused = len(work.fresh) == before
        work.run.event(
            "done",
            node=name,
            planner=planner,
            round=number,
            seconds=round(seconds, 3),
            reused=reused,
            note=note,
        )
        elapsed = "  reused" if reused else f"{seconds:6.1f} s"
        console.print(
            f"[bold]{planner:<10}[/] round {number}  {name:<10} [cyan]{elapsed}[/]  ", end="", highlight=False
        )
        console.print(note, markup=False, highlight=False, soft_wrap=True)
        return update

    return run


@contextmanager
def checkpoints(folder: Path) -> Iterator[SqliteSaver]:
    """The run's checkpoint database."""
    connection = sqlite3.connect(folder / DATABASE, check_same_thread=False)
    try:
        yield SqliteSaver(connection)
    finally:
        connection.close()


def run_planner(work: Work, saver: SqliteSaver, planner: str) -> LoopState:
    """Run a planner's thread to its end, from where its last checkpoint stands."""
    graph = build_graph(work, saver)
    rounds = work.config.rounds
    config: Any = {
        "configurable": {"thread_id": planner},
        "recursion_limit": STEPS_PER_ROUND * (rounds + 2),
    }
    snapshot = graph.get_state(config)
    if snapshot.values and not snapshot.next:
        return cast(LoopState, snapshot.values)
    # None goes on from the checkpoint; the node that was interrupted runs again and is idempotent.
    start = None if snapshot.next else first_state(planner, rounds)
    return cast(LoopState, graph.invoke(start, config, durability="sync"))
