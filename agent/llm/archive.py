"""Talks with the model as files: each turn's request and reply, and the same talk again without a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.config import LLMSettings
from agent.llm.client import Client, Message, ModelError, Reply
from agent.stop import at_once
from training.config import Strict, expand, validate
from training.errors import RunError
from training.files import read_json
from training.run import differences

ARCHIVE = "llm.json"


class Turn(Strict):
    """One request and what came back: a reply, or an error after all retries.

    ``asked`` holds the address, the model, its settings and the messages, never the key.
    """

    asked: dict[str, Any]
    reply: Reply | None = None
    error: str | None = None
    seconds: float = 0.0


class Talk(Strict):
    """What ``llm.json`` holds: the turns of one plan; ``given_up`` is why the thinker planned instead."""

    turns: list[Turn]
    given_up: str | None = None


Ask = Callable[[Sequence[Message]], Turn]


def asked(settings: LLMSettings, messages: Sequence[Message]) -> dict[str, Any]:
    """What decides a reply."""
    return {**settings.identity(), "messages": list(messages)}


def live(settings: LLMSettings, seed: int) -> Ask:
    """Ask the server.

    Raises:
        ConfigError: the settings name none, or it refuses the request.
        Stopped: the process is asked to end.
    """
    client = Client(settings, seed)

    def ask(messages: Sequence[Message]) -> Turn:
        began = time.monotonic()
        reply, error = None, None
        try:
            with at_once():  # a model may think for minutes; the turns of an unfinished plan are asked again
                reply = client.chat(messages)
        except ModelError as problem:
            error = problem.message
        seconds = round(time.monotonic() - began, 3)
        return Turn(asked=asked(settings, messages), reply=reply, error=error, seconds=seconds)

    return ask


def replayed(settings: LLMSettings, run: str) -> Ask:
    """Answer from the talks archived in another run.

    Raises:
        RunError: that run holds no talk, or another one than is asked for now.
    """
    folder = expand(run)
    paths = sorted(folder.glob(f"rounds/*/plan-*/{ARCHIVE}"))
    talks = {path: validate(Talk, read_json(path), where=str(path)).turns for path in paths}
    if not any(talks.values()):
        raise RunError(
            "holds no replies of a model", path=folder, cure="give a run that planner llm planned in"
        )
    path: Path | None = None
    left: list[Turn] = []

    def ask(messages: Sequence[Message]) -> Turn:
        nonlocal path, left
        wanted = asked(settings, messages)
        if path is None:
            # The talk that begins as this one does; where none does, the nearest tells what differs.
            path = min((p for p in paths if talks[p]), key=lambda p: len(_changes(talks[p][0], wanted)))
            left = list(talks[path])
        if not left:
            raise RunError("the archived talk ends too early", path=path, cure="run it without --replay")
        turn = left.pop(0)
        changes = _changes(turn, wanted)
        if changes:
            raise RunError(
                f"the archived request is another one (differs in: {', '.join(changes[:8])})",
                path=path,
                cure="replay with the config, weights and data of that run",
            )
        return turn

    return ask


def _changes(turn: Turn, wanted: dict[str, Any]) -> list[str]:
    return differences(_opened(turn.asked), _opened(wanted))


def _opened(value: dict[str, Any]) -> dict[str, Any]:
    """A request with the figures in its messages as JSON, so that differences can be named."""
    messages = []
    for message in value.get("messages", []):
        try:
            messages.append({**message, "content": json.loads(message["content"])})
        except ValueError:
            messages.append(message)
    return {**value, "messages": messages}
