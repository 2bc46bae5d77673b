"""A chat at the terminal. What the model says goes to stdout, all else to stderr."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console

from agent.llm.client import HIDDEN, SHORTEST_KEY
from training.errors import DataError
from training.progress import console

PROMPT = "you> "
YES = ("y", "yes")


class Terminal:
    """The user's side of a chat.

    Args:
        yes: agree to everything that a tool asks.
        log: new file for the transcript, JSON lines.
        key_env: variable of the key, which the transcript never holds.

    Raises:
        DataError: the log exists.
        OSError: the log cannot be written.
    """

    def __init__(self, *, yes: bool = False, log: Path | None = None, key_env: str = "RESP_LLM_KEY"):
        self.yes, self.path = yes, log
        self._key = os.environ.get(key_env, "").strip()
        self._out = Console()
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            try:
                log.touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                raise DataError("exists already", path=log, cure="give a new file with --log") from None

    def say(self, text: str) -> None:
        """Print the model's words, without markup and without what would steer the terminal."""
        self._out.print(plain(text), markup=False, highlight=False, soft_wrap=True, emoji=False)

    def note(self, text: str) -> None:
        """Print a line of the program's own."""
        console.print(plain(text), style="dim", markup=False, highlight=False, soft_wrap=True, emoji=False)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Print rows for the user, who alone sees them."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(*[escape(name) for name in rows[0]])
        for row in rows[1:]:
            table.add_row(*[escape(plain(cell)) for cell in row])
        console.print(table, highlight=False, emoji=False)

    def confirm(self, question: str) -> bool:
        """Ask at the terminal; without one, or without an answer, the answer is no."""
        if self.yes:
            return True
        if not (sys.stdin.isatty() and console.is_terminal):
            return False
        try:
            answer = console.input(f"{question}? [y/N] ", markup=False, emoji=False)
        except EOFError:
            return False
        return answer.strip().lower() in YES

    def read(self) -> str | None:
        """The user's next message; None at the end."""
        if sys.stdin.isatty():
            try:
                return console.input(PROMPT, markup=False)
            except EOFError:
                return None
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")  # what is no text is told to nobody by a traceback
        line = sys.stdin.readline()
        return line if line else None

    def log(self, kind: str, **fields: Any) -> None:
        """Append a line to the transcript."""
        if self.path is None:
            return
        line = json.dumps(self._hide({"who": kind, **fields}), ensure_ascii=False)
        with self.path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(line + "\n")

    def _hide(self, value: Any) -> Any:
        """The value without the key: before JSON escapes what the key may hold."""
        if isinstance(value, str) and len(self._key) >= SHORTEST_KEY:
            return value.replace(self._key, HIDDEN)
        if isinstance(value, dict):
            return {self._hide(name): self._hide(one) for name, one in value.items()}
        return [self._hide(one) for one in value] if isinstance(value, list | tuple) else value


def plain(text: str) -> str:
    """The text without control characters except line breaks and tabs; letters of every script stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
