"""Asking the user for a plan's approval: at the terminal, or by ending until the run is resumed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

from agent.nodes.approve import proposal, sheet
from agent.sheet import read_sheet, write_sheet
from agent.state import LoopState
from agent.stop import at_once
from agent.work import Work
from training.errors import DataError
from training.progress import console

WAITING = "waiting"  # the event


class Waiting(Exception):
    """A plan waits for the user; the run goes on when it is resumed."""


def resume_line(folder: Path) -> str:
    """The command that goes on with a run."""
    return f"resp-agent loop --resume {shlex.quote(str(folder))}"


def ask(work: Work, state: LoopState) -> dict[str, Any]:
    """The plan that the user agrees to, as JSON.

    Without a terminal the run ends and waits; resuming it agrees to what the sheet then holds.

    Raises:
        Waiting: the user was told where the plan is, and is to resume the run.
        DataError: the sheet was edited into something that is not allowed.
    """
    plan, request = proposal(state)
    path = sheet(work, state)
    at_terminal = sys.stdin.isatty() and console.is_terminal
    told = _told(work, state) and path.exists()
    if not path.exists():
        write_sheet(path, plan, request)
    if not at_terminal and not told:
        _leave(work, state, path)
    while True:
        if at_terminal and not _agrees(path, state):
            _leave(work, state, path)
        try:
            return read_sheet(path, plan, request).model_dump(mode="json")
        except DataError as error:
            if not at_terminal:
                raise
            console.print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)


def _told(work: Work, state: LoopState) -> bool:
    """Whether the user knows of the sheet; a process killed before that has not asked yet."""
    mine = {"event": WAITING, "planner": state["planner"], "round": state["round"]}
    return any(mine.items() <= event.items() for event in work.run.events())


def _leave(work: Work, state: LoopState, path: Path) -> NoReturn:
    planner, number = state["planner"], state["round"]
    work.run.event(WAITING, planner=planner, round=number, sheet=work.run.relative(path))
    console.print(
        f"The plan of {planner} for round {number} waits for you: {path}\n"
        f"Edit it if you like, then go on with: {resume_line(work.run.folder)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    raise Waiting


def _agrees(path: Path, state: LoopState) -> bool:
    """Show the sheet and let the user edit it; False: not now."""
    import click

    question = f"Plan of {state['planner']}, round {state['round']}: Enter goes on, e edits, q ends here "
    while True:
        console.print(path.read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True)
        try:
            with at_once():  # nobody finishes a step by pressing Enter after they asked to end
                key = console.input(question, markup=False).strip().lower()
        except EOFError:
            return False
        if key == "e":
            click.edit(filename=str(path))
        elif key in ("", "q"):
            return not key
