"""The run folder: one folder that holds everything of a run, used by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from training.config import Strict, dump_config
from training.errors import RunError

LOCK, CONFIG, EVENTS = ".lock", "config.yaml", "events.jsonl"
LOOKS, LOOK = 5, 0.05  # times, s: how often a held lock is tried again


class Run:
    """A locked run folder with its event log. Made by :func:`open_run`.

    Args:
        folder: the run folder.
        config: the resolved config, already written to ``config.yaml``.
    """

    def __init__(self, folder: Path, config: Strict):
        self.folder = folder
        self.config = config

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to ``events.jsonl`` and flush it to disk."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **fields}, ensure_ascii=False)
        path = self.folder / EVENTS
        torn = path.is_file() and path.stat().st_size > 0 and _last_byte(path) != b"\n"
        with path.open("a", encoding="utf-8") as file:
            # A process killed while writing leaves half a line; start a new one after it.
            file.write(("\n" if torn else "") + line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def events(self) -> list[dict[str, Any]]:
        """All complete events in order, see :func:`read_events`."""
        return read_events(self.folder)

    def relative(self, path: Path) -> str:
        """A path inside the run, relative to it, with forward slashes."""
        return path.relative_to(self.folder).as_posix()


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All complete events of a run in order; a line torn by a kill is left out."""
    path = folder / EVENTS
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):  # not at U+2028
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            found.append(event)
    return found


@contextmanager
def open_run(folder: Path, config: Strict, *, resume: bool = False) -> Iterator[Run]:
    """Create or resume a run folder and hold its lock until the block ends.

    Raises:
        RunError: another process uses the folder, it holds a run and ``resume`` is off, it was made
            from another config, or there is nothing to resume.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError("is a file, not a run folder", path=folder, cure="choose another --run")
    if resume and not folder.is_dir():
        raise RunError("there is no run to resume", path=folder, cure="start it without --resume")
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        _claim(folder, config, resume)
        yield Run(folder, config)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold ``.lock`` exclusively; the system frees it when the process ends, however it ends."""
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            _take(file)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise RunError(
                f"is in use by another process (pid {owner})",
                path=folder,
                cure="wait for it or choose another --run",
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _take(file: IO[str]) -> None:
    """Lock the file, or raise OSError; who only looks whether it is locked holds it for a moment."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK)
        else:
            return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _claim(folder: Path, config: Strict, resume: bool) -> None:
    """Check that the folder is new, or that it is the same run when resuming; write the config."""
    path = folder / CONFIG
    if not path.is_file():
        strangers = sorted(p.name for p in folder.iterdir() if p.name != LOCK and not p.name.endswith(".tmp"))
        if strangers:
            raise RunError(
                f"is no run folder: it holds {strangers[0]!r} but no {CONFIG}",
                path=folder,
                cure="choose another --run",
            )
        dump_config(config, path)
        return
    if not resume:
        raise RunError("holds a run already", path=folder, cure="add --resume, or choose another --run")
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(
            f"its config cannot be read ({error})", path=path, cure="choose another --run"
        ) from error
    wanted = config.model_dump(mode="json")
    if stored != wanted:
        keys = ", ".join(differences(stored, wanted)[:5])
        raise RunError(
            f"was made from another config (differs in: {keys})",
            path=folder,
            cure="resume it with the same config, or choose another --run",
        )


def differences(a: Any, b: Any, prefix: str = "") -> list[str]:
    """Dotted keys in which two JSON values differ; places of lists are keys."""
    if isinstance(a, list) and isinstance(b, list):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [prefix or "everything"]
    found = []
    for key in sorted(set(a) | set(b), key=str):
        name = f"{prefix}.{key}" if prefix else str(key)
        found += differences(a.get(key), b.get(key), name)
    return found


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
