"""The story of every round, from the run's own files: weak, planned, kept, changed.

Runs of earlier versions lack some fields: what is not there is not told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.figures import SCORES
from agent.rooms import PREDICTIONS
from agent.state import LoopState
from agent.work import Work
from training.files import read_json

TITLES = ("Macro-F1", "Tail macro-F1", "Accuracy", "Sp", "Se", "Score")
METRICS = dict(zip(SCORES, TITLES, strict=True))
PAIRS = 6  # confusions named per round
WEAKEST = 3  # classes named per round
WORDS = {
    "baseline": "baseline",
    "nothing": "nothing",
    "duplicate": "copies of real clips",
    "restyle": "restyled real clips",
    "synthesize": "synthetic clips",
}
CONTROLS = ("oversample", "none")


def tell(work: Work, states: Mapping[str, LoopState], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per planner its rounds from the first on, and its test beside the controls'."""
    return [
        {
            "name": planner,
            "rounds": [
                round_story(work, state, place)
                for place, record in enumerate(state["records"])
                if record["round"] > 0
            ],
            "test": beside_controls(planner, results["planners"]),
        }
        for planner, state in states.items()
    ]


def round_story(work: Work, state: LoopState, place: int) -> dict[str, Any]:
    """One round, ``state["records"][place]``."""
    record, number = state["records"][place], state["records"][place]["round"]
    before = state["scores"][place - 1]
    screen = read_json(work.path(record["screen"]) / "screen.json") if record.get("screen") else None
    profile = find(work, number, "diagnose", predictions=before.get("folder"))
    plan = find(work, number, "plan", planner=state["planner"])
    return {
        "number": number,
        "method": record["method"],
        "what": WORDS.get(record["method"], record["method"]),
        "marks": marks(record, state["planner"]),
        "note": "" if plan is None else read_json(plan / "plan.json").get("note", ""),
        "items": record.get("items", []),
        "planned": sum(record.get("planned", {}).values()),
        "added": sum(record["added"].values()),
        "gate": record.get("gate"),
        "fallback": record.get("fallback", False),
        "weak": None if profile is None else weakness(read_json(profile / "profile.json")),
        "screen": None if screen is None else screened(screen),
        "changes": changes(before, record.get("validation") or {}, interval(work, state, place)),
        "classes": class_changes(before, record),
        "rolled_back": record.get("rolled_back", False),
    }


def find(work: Work, number: int, node: str, **wanted: Any) -> Path | None:
    """The folder of a node's outputs in a round, by some of its inputs."""
    for folder in sorted(work.path(f"rounds/{number:02d}").glob(f"{node}-*")):
        inputs = folder / "inputs.json"
        if inputs.is_file() and wanted.items() <= read_json(inputs).items():
            return folder
    return None


def marks(record: Mapping[str, Any], planner: str) -> list[str]:
    """What sets a plan apart from one that the planner made by rule."""
    found = []
    if record.get("fallback"):
        found.append("gate closed: oversample instead")
    elif planner == "llm":
        stood_in = record.get("stood_in")
        found.append("the thinker stood in for the language model" if stood_in else "by a language model")
    if record.get("edited"):
        found.append("edited by the user")
    return found


def interval(work: Work, state: LoopState, place: int) -> dict[str, float] | None:
    """Difference in macro-F1 that a round made, with its interval; None where it is not known."""
    record = state["records"][place]
    guard: dict[str, float] | None = record.get("guard")
    if guard is not None or record["method"] == "nothing" or record.get("rolled_back"):
        return guard
    folders = [work.path(str(state["scores"][i].get("folder"))) for i in (place, place - 1)]
    if not all((folder / PREDICTIONS).is_file() for folder in folders):
        return None
    after, before = folders
    return work.rooms.difference(after, before)


def weakness(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Classes from the weakest on, and the commonest confusions."""
    rows = sorted(profile["classes"], key=lambda c: (c["f1"], c["label"]))
    pairs = [
        {"true": row["label"], "taken": name, "count": count, "of": row["support"]}
        for row in rows
        for name, count in row.get("confused_with", {}).items()
    ]
    pairs.sort(key=lambda pair: (-pair["count"], pair["true"], pair["taken"]))
    return {"profile": profile, "rows": rows, "weakest": rows[:WEAKEST], "pairs": pairs[:PAIRS]}


def screened(report: Mapping[str, Any]) -> dict[str, Any]:
    """Clips generated and kept, and why the others went, by class."""
    dropped = [v for v in report["verdicts"] if not v["kept"]]
    reasons = Counter(v["reason"] for v in dropped)
    rows = [
        {
            "label": label,
            "planned": planned,
            "generated": report["generated"].get(label, 0),
            "kept": report["kept"].get(label, 0),
            "dropped": Counter(v["reason"] for v in dropped if v["label"] == label),
        }
        for label, planned in report["planned"].items()
    ]
    return {
        "planned": sum(report["planned"].values()),
        "generated": sum(report["generated"].values()),
        "kept": sum(report["kept"].values()),
        "reasons": dict(sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))),
        "rows": rows,
    }


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], guard: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    """Scores of ``plan`` before and after a round, where both are known; macro-F1 with its interval."""
    found = []
    for name, title in METRICS.items():
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None:
            ends = guard if name == "macro_f1" else None
            found.append({"title": title, "before": old, "after": new, "gain": new - old, "interval": ends})
    return found


def class_changes(before: Mapping[str, Any], record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """F1 of every class before and after a round, the largest gain first."""
    old, new = before.get("f1") or {}, (record.get("validation") or {}).get("f1") or {}
    rows = [
        {
            "label": label,
            "before": old[label],
            "after": new[label],
            "gain": new[label] - old[label],
            "added": record["added"].get(label, 0),
        }
        for label in old
        if old[label] is not None and new.get(label) is not None
    ]
    return sorted(rows, key=lambda row: (-row["gain"], row["label"]))


def beside_controls(planner: str, planners: Mapping[str, Any]) -> dict[str, Any]:
    """A planner's test figures and those of the controls of the same run."""
    names = [planner] + [name for name in CONTROLS if name in planners and name != planner]
    return {
        "rows": [(name, planners[name]["test"]["metrics"]) for name in names],
        "controls": names[1:],
        "gains": [
            (name, _gain(planners[planner]["test"]["metrics"], planners[name]["test"]["metrics"]))
            for name in names[1:]
        ],
    }


def _gain(mine: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    return {name: mine[name]["value"] - other[name]["value"] for name in mine if name in other}


def sums(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Method → class → clips added in the rounds that stand."""
    found: dict[str, dict[str, int]] = {}
    for record in records:
        if record.get("rolled_back") or not record["added"]:
            continue
        mine = found.setdefault(record["method"], {})
        for label, count in record["added"].items():
            mine[label] = mine.get(label, 0) + count
    return found
