"""The loop as a LangGraph graph, one thread per planner, checkpointed in the run's SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from agent import nodes, stop
from agent.approval import ask
from agent.state import LoopState, first_state
from agent.work import Work
from training.errors import RunError
from training.progress import console

Node = Callable[[Work, LoopState], dict[str, Any]]


class Step(Protocol):
    """A node as LangGraph calls it."""

    def __call__(self, state: LoopState) -> dict[str, Any]:
        """The update of the state."""
        ...


DATABASE = "checkpoints.sqlite"
MAKING = ("restyle", "synthesize")  # methods that make clips
STEPS_PER_ROUND = 12  # more than the nodes of one round; the true budget is the state's `left`


def build_graph(work: Work, saver: SqliteSaver | None = None) -> CompiledStateGraph:
    """Wire the nodes.

    ::

        prepare → retrain → validate ─┬→ diagnose → plan ─┬→ (nothing) → validate
                     ↑                │                   ├→ duplicate → retrain
                     │                └→ test → END       └→ [approve] → [gate] ─┬→ synthesize → screen → retrain
                     └────────────────────────────────────────────────────────── └→ fallback → duplicate

    ``approve`` is there if the config asks for it, and the gate stands before the generator alone.
    """

    def after_plan(state: LoopState) -> str:
        # A gate that is known to be closed will not let the plan pass: there is nothing to approve.
        shut = state["plan"]["method"] == "synthesize" and state["gate"] and not state["gate_open"]
        asks = work.config.curriculum.approve and state["plan"]["method"] in MAKING and not shut
        return "approve" if asks else _after_approval(state)

    graph = StateGraph(LoopState)
    for name in nodes.__all__:
        graph.add_node(name, _step(work, name, getattr(nodes, name)))
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "retrain")
    graph.add_edge("retrain", "validate")
    graph.add_conditional_edges("validate", _more_rounds, ["diagnose", "test"])
    graph.add_edge("diagnose", "plan")
    ways = ["validate", "duplicate", "gate", "synthesize"]
    graph.add_conditional_edges("plan", after_plan, [*ways, "approve"])
    graph.add_conditional_edges("approve", _after_approval, ways)
    graph.add_conditional_edges("gate", _after_gate, ["synthesize", "fallback"])
    graph.add_edge("fallback", "duplicate")
    graph.add_edge("duplicate", "retrain")
    graph.add_edge("synthesize", "screen")
    graph.add_edge("screen", "retrain")
    graph.add_edge("test", END)
    return graph.compile(checkpointer=saver)


def _more_rounds(state: LoopState) -> str:
    return "diagnose" if state["left"] > 0 else "test"


def _after_approval(state: LoopState) -> str:
    ways = {"nothing": "validate", "duplicate": "duplicate", "restyle": "synthesize", "synthesize": "gate"}
    return ways[state["plan"]["method"]]


def _after_gate(state: LoopState) -> str:
    return "synthesize" if state["gate_open"] else "fallback"


def _step(work: Work, name: str, node: Node) -> Step:
    """A node with its events and its progress line."""

    def run(state: LoopState) -> dict[str, Any]:
        stop.check()
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
        work.pace.done(planner, name, number, 0.0 if reused else seconds)
        return update

    return run


@contextmanager
def checkpoints(folder: Path) -> Iterator[SqliteSaver]:
    """The run's checkpoint database.

    Raises:
        RunError: it is damaged, or cannot be written.
    """
    path = folder / DATABASE
    try:
        with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
            if found != ["ok"]:
                raise _damaged(path, found[0])
            yield SqliteSaver(connection)
    except sqlite3.OperationalError as error:  # full disk, no permission
        raise RunError(
            f"cannot be used ({error})",
            path=path,
            cure="free some space or mend the permissions, then use --resume",
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, what: str) -> RunError:
    return RunError(
        f"is damaged ({' '.join(what.split())})",
        path=path,
        cure=f"delete {DATABASE} and use --resume: finished steps are read from rounds/, none is repeated",
    )


def run_planner(work: Work, saver: SqliteSaver, planner: str) -> LoopState:
    """Run a planner's thread to its end, from where its last checkpoint stands.

    Raises:
        RunError: the checkpoint cannot be read.
        Waiting: a plan waits for the user's approval.
    """
    graph = build_graph(work, saver)
    rounds = work.config.rounds
    config: Any = {
        "configurable": {"thread_id": planner},
        "recursion_limit": STEPS_PER_ROUND * (rounds + 2),
    }
    closed = work.pace.closed
    while True:
        try:
            snapshot = graph.get_state(config)
        except (ValueError, TypeError, KeyError, EOFError) as error:  # what broken bytes decode to
            raise _damaged(work.path(DATABASE), str(error)) from error
        work.pace.closed = closed + len(snapshot.values.get("records", []))
        # Not `next`: it is empty, too, where a step's writes were saved and its checkpoint was not.
        if snapshot.values.get("test"):
            return cast(LoopState, snapshot.values)
        # None goes on from the checkpoint; the node that was interrupted runs again and is idempotent.
        start: Any = None if snapshot.next or snapshot.values else first_state(planner, rounds)
        if snapshot.interrupts:
            start = Command(resume=ask(work, cast(LoopState, snapshot.values)))
        graph.invoke(start, config, durability="sync")
