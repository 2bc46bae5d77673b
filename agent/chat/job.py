"""What a tool is: typed arguments, and a job that is checked before anybody is asked about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict

from agent.chat.place import Place
from training.config import Strict


class Arguments(Strict):
    """Base of every tool's arguments."""

    model_config = ConfigDict(str_max_length=4000)


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        told: JSON that the model is given: figures, counts, and names it already knows.
        shown: header and rows for the user's eyes alone.
    """

    told: dict[str, Any]
    shown: Sequence[Sequence[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A call that can be carried out.

    Attributes:
        run: does it.
        question: what the user has to agree to first; None: nothing long, nothing written among others.
    """

    run: Callable[[], Result]
    question: str | None = None


@dataclass(frozen=True)
class Tool:
    """A function that the model may call.

    Attributes:
        about: what the model is told of it.
        arguments: their types; the model is shown their schema.
        job: from validated arguments to a job; raises RespError where they ask for what is not allowed.
    """

    about: str
    arguments: type[Arguments]
    job: Callable[[Any, Place], Job]
