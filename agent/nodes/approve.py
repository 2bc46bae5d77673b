"""``approve``: stop until the user has seen the plan, and take over what was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.planners import Plan, PlanRequest
from agent.sheet import write_sheet
from agent.state import LoopState
from agent.work import Work
from training.config import validate
from training.files import write_json


def approve(work: Work, state: LoopState) -> dict[str, Any]:
    """Interrupt the graph with the plan's sheet; it goes on with the plan that the user agrees to.

    The answer is kept in a folder like that of any node, so it is asked for once, whatever happens to
    the checkpoints.
    """
    plan, request = proposal(state)
    inputs = {
        "plan": plan.model_dump(mode="json"),
        "request": request.model_dump(mode="json"),
    }
    number = state["round"]
    if work.find("approve", number, inputs) is None:
        from langgraph.types import interrupt

        if not sheet(work, state).exists():
            write_sheet(sheet(work, state), plan, request)
        answer = interrupt({"sheet": work.run.relative(sheet(work, state))})
    else:
        answer = None

    def make(folder: Path) -> dict[str, Any]:
        agreed = validate(Plan, answer, where="the answer to the graph")
        write_json(folder / "plan.json", answer)
        return {"plan": answer, "edited": agreed != plan}

    _, result = work.once("approve", number, inputs, make)
    agreed = validate(Plan, result["plan"], where="the plan approved")
    items = [item.model_dump(mode="json") for item in agreed.items]
    changed = {"planned": agreed.counts, "items": items, "edited": result["edited"]}
    return {
        "plan": agreed.model_dump(mode="json"),
        "pending": {**state["pending"], **changed},
        "note": "edited: " + ", ".join(f"{name} {count}" for name, count in agreed.counts.items())
        if result["edited"]
        else "as planned",
    }


def proposal(state: LoopState) -> tuple[Plan, PlanRequest]:
    """The plan that waits, and what it must keep to."""
    plan = validate(Plan, state["plan"], where="the graph's state")
    request = validate(PlanRequest, state["request"], where="the graph's state")
    if not request.plannable:
        # The planner planned over all classes; the gate will be closed and say why.
        request = request.model_copy(update={"plannable": [c.label for c in request.classes]})
    return plan, request


def sheet(work: Work, state: LoopState) -> Path:
    """Where the user finds the plan."""
    return work.path(f"rounds/{state['round']:02d}/plan-{state['planner']}.yaml")
