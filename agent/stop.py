"""Ending on a signal: the step under way is finished, so that nothing has to be done twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from training.progress import console

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """The process was asked to end; its exit code is 128 + the signal, as a shell gives it."""

    def __init__(self, number: int):
        self.signal = signal.Signals(number).name
        super().__init__(128 + number)


class _Request:
    """Signals belong to the process, and so does this."""

    asked: int | None = None
    waiting = False  # for a child that may take hours


_request = _Request()


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the block between two steps; a second signal ends it at once.

    Outside the main thread, where Python allows no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _request.asked = None


def check() -> None:
    """Called between steps.

    Raises:
        Stopped: a signal has come.
    """
    if _request.asked is not None:
        raise Stopped(_request.asked)


@contextmanager
def at_once() -> Iterator[None]:
    """A wait that a signal ends at once: for a child that trains for longer than anyone grants.

    Raises:
        Stopped: a signal comes, or has come already.
    """
    _request.waiting = True
    try:
        check()
        yield
    finally:
        _request.waiting = False


def _handle(number: int, frame: FrameType | None) -> None:
    if _request.waiting or _request.asked is not None:
        raise Stopped(number)
    _request.asked = number
    name = signal.Signals(number).name
    console.print(f"[yellow]{name}[/]: this step is finished first; once more to end at once")
