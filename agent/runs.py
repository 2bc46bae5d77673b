"""Runs on disk: what state they are in, what their rounds did, and how two of them differ."""

from __future__ import annotations

import fcntl
import math
from pathlib import Path
from typing import Any

import yaml

from training.errors import DataError, RespError, RunError
from training.files import read_json
from training.run import CONFIG, LOCK, read_events

SUMMARY = "summary.json"
WAITING = "waiting for approval"


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """One row for each folder in ``folder``, by name; a row that is no run says so in its ``state``.

    Raises:
        RunError: there is no such folder.
    """
    if not folder.is_dir():
        raise RunError("there is no such folder", path=folder, cure="give the folder that holds the runs")
    return [row(path) for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def row(run: Path) -> dict[str, Any]:
    """State, planners, closed rounds, best figures, age (s since the last event) and size (bytes) of a run."""
    found: dict[str, Any] = {"run": run.name}
    try:
        config, events = read_config(run), read_events(run)
        summary = read_summary(run)
        found |= {
            "state": state(run, events, summary),
            "task": config.get("task"),
            "planners": list(config["planners"]),
            "rounds": config["rounds"],
            "closed": closed(events),
            "best": best(summary),
            "last": events[-1].get("time") if events else None,
            "bytes": size(run),
        }
    except (RespError, OSError) as error:
        found["state"] = error.message if isinstance(error, RespError) else f"unreadable ({error.strerror})"
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # what broken JSON or YAML leads to
        found["state"] = f"broken ({type(error).__name__}: {error})"
    return found


def show_run(run: Path) -> dict[str, Any]:
    """A run's row with its results by planner and round: what was planned and kept, and the figures.

    Raises:
        RunError: the folder holds no run of the loop, or a broken one.
    """
    found = row(run)
    if "task" not in found:
        raise RunError(found["state"], path=run, cure="give the folder of a run of `resp-agent loop`")
    summary = read_summary(run)
    return found | {
        "results": summary and summary["results"],
        "steps": [
            {name: event.get(name) for name in ("planner", "round", "node", "seconds", "note")}
            for event in read_events(run)
            if event.get("event") == "done"
        ],
    }


def diff_runs(one: Path, other: Path) -> dict[str, Any]:
    """Config keys in which two runs differ, and their test figures side by side.

    Raises:
        RunError: a folder holds no run of the loop.
    """
    rows = [show_run(run) for run in (one, other)]
    flat = [flatten(read_config(run)) for run in (one, other)]
    keys = sorted({key for values in flat for key in values})
    missing = object()
    config = {
        key: [values.get(key) for values in flat]
        for key in keys
        if flat[0].get(key, missing) != flat[1].get(key, missing)
    }
    figures: dict[str, dict[str, list[float | None]]] = {}
    for place, found in enumerate(rows):
        for planner, record in ((found["results"] or {}).get("planners") or {}).items():
            for name, figure in record["test"]["metrics"].items():
                pair = figures.setdefault(planner, {}).setdefault(name, [None, None])
                pair[place] = figure["value"]
    return {
        "runs": [str(one), str(other)],
        "states": [found["state"] for found in rows],
        "config": config,
        "figures": figures,
    }


def read_config(run: Path) -> dict[str, Any]:
    """The run's config as it was written, whatever version of the loop wrote it.

    Raises:
        RunError: the folder is not a run of the loop.
    """
    if not (run / CONFIG).is_file():
        raise RunError("no run", path=run)
    try:
        config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"broken ({CONFIG} is not YAML)", path=run) from error
    if not isinstance(config, dict) or not {"planners", "rounds"} <= set(config):
        raise RunError("no run of the loop", path=run)
    planners = config["planners"]
    named = isinstance(planners, list) and all(isinstance(name, str) for name in planners)
    if not named or type(config["rounds"]) is not int:
        raise RunError(f"broken ({CONFIG} names no planners, or no number of rounds)", path=run)
    return config


def read_summary(run: Path) -> dict[str, Any] | None:
    """What the finished run wrote; None while it is not finished.

    Raises:
        RunError: it is broken.
    """
    if not (run / SUMMARY).is_file():
        return None
    try:
        summary = read_json(run / SUMMARY)
    except DataError as error:
        raise RunError(f"broken ({SUMMARY} is not JSON)", path=run) from error
    if not isinstance(summary, dict) or not isinstance(summary.get("results"), dict):
        raise RunError(f"broken ({SUMMARY} holds no results)", path=run)
    return summary


def state(run: Path, events: list[dict[str, Any]], summary: dict[str, Any] | None) -> str:
    """``running``, ``finished``, ``waiting for approval`` or ``interrupted``, with why where that is known."""
    if in_use(run):
        return "running"
    last = events[-1] if events else {}
    if summary is not None and last.get("event") == "end":
        return "finished"
    if last.get("event") == "waiting":
        return WAITING
    why = {"failed": "error", "stopped": "signal"}.get(str(last.get("event")))
    # Of a log of many lines the first; the rest is in events.jsonl.
    first = "" if why is None else str(last.get(why)).partition("\n")[0]
    return f"interrupted ({first})" if first else "interrupted"


def in_use(run: Path) -> bool:
    """Whether a process holds the run's lock."""
    if not (run / LOCK).is_file():
        return False
    with (run / LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def closed(events: list[dict[str, Any]]) -> dict[str, int]:
    """Planner → the last round that was validated."""
    found: dict[str, int] = {}
    for event in events:
        if event.get("event") == "done" and event.get("node") == "validate":
            name = str(event.get("planner"))
            found[name] = max(found.get(name, 0), int(event.get("round", 0)))
    return found


def best(summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """The planner with the highest macro-F1 on test, and its figures; None before the end."""
    if summary is None:
        return None
    figures = {
        planner: {name: value["value"] for name, value in record["test"]["metrics"].items()}
        for planner, record in summary["results"]["planners"].items()
    }
    first = max(figures, key=lambda name: (figures[name].get("macro_f1") or -math.inf, name))
    return {"planner": first, **figures[first]}


def size(folder: Path) -> int:
    """Bytes of the folder's files; one that goes away meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() and not path.is_symlink() else 0
        except OSError:
            continue
    return total


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted keys; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flatten(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found
