"""Text from and for a model: names made harmless, a single JSON object taken from a reply."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

THINK_END = "</think>"
FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)


def clean(text: str, limit: int = 500) -> str:
    """One line without control, format, private and broken characters, of at most ``limit`` characters.

    Line breaks and control characters could end the place that a name has in a prompt, a log or a page.
    """
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * limit])
    return " ".join("".join(kept).split())[:limit]


def strict_json(text: str | bytes) -> Any:
    """Read JSON without NaN, infinities and keys that occur twice.

    Raises:
        ValueError: it is not that; the message says why in one line.
    """
    try:
        found = text.decode() if isinstance(text, bytes) else text
        return json.loads(found, parse_constant=_no_number, object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def only_object(text: str) -> dict[str, Any]:
    """The single JSON object that a model's reply is, bare or in a fence, after its thinking.

    Raises:
        ValueError: the reply is something else; the message tells the model what.
    """
    answer = text.rpartition(THINK_END)[2] if THINK_END in text else text
    answer = answer.strip()
    if answer.startswith("<think>"):
        raise ValueError("the reply ends inside <think>, without an answer")
    if not answer:
        raise ValueError("the reply is empty")
    fenced = FENCE.findall(answer)
    if not answer.startswith("{") and len(fenced) == 1:
        answer = fenced[0]
    try:
        found = strict_json(answer)
    except ValueError as error:
        raise ValueError(f"the reply is not one JSON object: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("the reply is JSON, but not an object")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found
