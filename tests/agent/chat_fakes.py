"""A model that follows a script, and a user who answers as told and remembers what was shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.chat.job import Tool
from agent.chat.place import Place
from agent.chat.session import Session
from agent.chat.tools import TOOLS
from agent.llm.client import Message, Reply

Step = dict[str, Any] | str | Callable[[Sequence[Message]], dict[str, Any] | str]


class Script:
    """Answers with the next step; a step may look at what the model is sent."""

    def __init__(self, *steps: Step):
        self.steps = list(steps)
        self.seen: list[list[Message]] = []

    def chat(self, messages: Sequence[Message], *, json_mode: bool = True) -> Reply:
        assert json_mode
        self.seen.append(list(messages))
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        found = step(messages) if callable(step) else step
        return Reply(content=found if isinstance(found, str) else json.dumps(found, ensure_ascii=False))


class User:
    """The user's side; agrees to what ``agrees`` says."""

    def __init__(self, agrees: bool | Callable[[str], bool] = False):
        self.agrees = agrees
        self.said: list[str] = []
        self.notes: list[str] = []
        self.tables: list[Sequence[Sequence[str]]] = []
        self.asked: list[str] = []
        self.logged: list[tuple[str, dict[str, Any]]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        self.tables.append(rows)

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.agrees(question) if callable(self.agrees) else self.agrees

    def log(self, kind: str, **fields: Any) -> None:
        self.logged.append((kind, fields))


def session(model: Any, user: User, tools: dict[str, Tool] = TOOLS, **options: Any) -> Session:
    """A chat in the current folder."""
    return Session(model, Place(Path()), user, tools, **options)


def results(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The tools' results among the messages, as the model is told them."""
    found = [m["content"] for m in messages if m["content"].startswith('{"tool_result": ')]
    return [json.loads(text)["tool_result"] for text in found]


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments}
