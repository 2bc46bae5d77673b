"""Finished loops → the ``results`` block: equal for equal configs, weights and data, with no time, host or path."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from agent.compare.rows import Row
from agent.compare.run import FORMAT, Loop
from agent.compare.statistics import (
    DRAWS,
    LEVEL,
    Predicted,
    check_pairs,
    difference,
    spread,
    subject_interval,
)
from agent.config import LoopConfig
from agent.figures import scores_of
from agent.planners import SYNTHESIZING
from diagnoser.predictions import Predictions

SHARED = {"name", "seed", "planners"}  # of the loop's config: they differ between the loops
PROPOSING = ("thinker", "llm")  # planners whose rows are held against every other row, too
GATE = ("open", "reason", "macro_ratio", "tail_ratio")


def compare(
    base: LoopConfig, reference: str, loops: Sequence[Loop], tuned: Sequence[int] = (), draws: int = DRAWS
) -> dict[str, Any]:
    """All figures of a comparison.

    Args:
        base: what the rows share.
        reference: name of the row that the others are held against, with the same balancing.
        loops: all rows with all seeds.
        tuned: seeds of these that something was tuned on.
        draws: of the bootstrap over test subjects.

    Raises:
        DataError: rows of one seed were tested on other clips.
    """
    groups: dict[str, list[Loop]] = {}
    for one in loops:
        groups.setdefault(one.row.label, []).append(one)
    simulated = base.corpus.kind == "simulated"
    tested = {
        label: Predicted(
            predictions=[Predictions.load(one.predictions) for one in group],
            tail=[one.results["tail"] for one in group],
            task=base.task,
            draw_seeds=[one.seed if simulated else 0 for one in group],
        )
        for label, group in groups.items()
    }
    drawn = {label: one.distributions(draws) for label, one in tested.items()}

    def apart(label: str, other: str) -> dict[str, Any]:
        """Differences of one row to another, score by score."""
        check_pairs(tested[label], tested[other])
        return {
            name: difference(
                values_of(groups[label], name),
                values_of(groups[other], name),
                subject_interval(drawn[label], drawn[other], name),
            )
            for name in scores_of(base.task)
        }

    rows = {}
    for label, group in groups.items():
        row = group[0].row
        against = Row(reference, row.config, row.balanced).label
        record = describe(group, base)
        record["same_as"] = _same_as(label, groups)
        record["scores"] = {name: spread(values_of(group, name)) for name in scores_of(base.task)}
        if label != against:
            record["differences"] = apart(label, against)
        if row.config.planner in PROPOSING:
            record["against"] = {other: apart(label, other) for other in groups if other != label}
        rows[label] = record
    first = loops[0].results
    return {
        "format": FORMAT,
        "loop": base.model_dump(mode="json", exclude=SHARED),
        "task": base.task,
        "corpus": base.corpus.kind,
        "budget": base.budget,
        "rounds": base.rounds,
        "seeds": [one.seed for one in next(iter(groups.values()))],
        "tuned_on": sorted(tuned),
        "upper_bound": next(
            (one.results["upper_bound"] for one in loops if one.results["upper_bound"]), None
        ),
        "reference": reference,
        "level": LEVEL,
        "draws": draws,
        "train": first["train"],
        "tail": first["tail"],
        "test": [first_test(one) for one in next(iter(groups.values()))],
        "prior": {
            name: spread([one.record["test"]["prior"].get(name) for one in next(iter(groups.values()))])
            for name in scores_of(base.task)
        },
        "rows": rows,
    }


def describe(group: Sequence[Loop], base: LoopConfig) -> dict[str, Any]:
    """What the loops of a row did: clips, trainings, gates and figures on the plan split, round by round."""
    row = group[0].row
    return {
        "name": row.name,
        "planner": row.config.planner,
        "balanced": row.balanced,
        "why": row.config.why,
        "changes": list(row.config.loop),
        "upper_bound": group[0].results["upper_bound"] if row.config.planner in SYNTHESIZING else None,
        "clips": spread([_spent(one)[-1] for one in group]),
        "trainings": spread([_trainings(one) for one in group]),
        "efficiency": [_efficiency(group, number) for number in range(base.rounds + 1)],
        "loops": [
            {
                "seed": one.seed,
                "gate": _gate(one),
                "fell_back": sum(bool(r["fallback"]) for r in one.record["rounds"]),
                "rolled_back": sum(bool(r["rolled_back"]) for r in one.record["rounds"]),
                "rested": _rested(one),
                "stood_in": sum(bool(r.get("stood_in")) for r in one.record["rounds"]),
                **one.record,
            }
            for one in group
        ],
    }


def values_of(group: Sequence[Loop], name: str) -> list[float | None]:
    """A score on test, loop by loop; None where it is undefined."""
    return [one.record["test"]["metrics"].get(name, {}).get("value") for one in group]


def first_test(one: Loop) -> dict[str, Any]:
    """Size of a loop's test split."""
    test = one.record["test"]
    return {name: test.get(name) for name in ("clips", "subjects")}


def standing(rounds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Figures on the plan split of the diagnoser that stands after each round."""
    found: list[dict[str, Any]] = []
    for record in rounds:
        found.append(found[-1] if record["rolled_back"] else record["validation"])
    return found


def _efficiency(group: Sequence[Loop], number: int) -> dict[str, Any]:
    figures = [standing(one.record["rounds"])[number] for one in group]
    return {
        "round": number,
        "clips": spread([_spent(one)[number] for one in group]),
        "macro_f1": spread([one["macro_f1"] for one in figures]),
        "tail_macro_f1": spread([one["tail_macro_f1"] for one in figures]),
    }


def _spent(one: Loop) -> list[int]:
    """Clips added up to each round; those of a round that was rolled back were paid for, too."""
    return list(accumulate(sum(record["added"].values()) for record in one.record["rounds"]))


def _trainings(one: Loop) -> int:
    """Diagnosers trained for the row, the baseline among them."""
    return sum(record["method"] != "nothing" for record in one.record["rounds"])


def _rested(one: Loop) -> int:
    """Rounds for which a planner that could have added clips planned none."""
    if one.row.config.planner == "none":
        return 0
    return sum(record["method"] == "nothing" for record in one.record["rounds"])


def _gate(one: Loop) -> dict[str, Any] | None:
    gate = one.results["gate"]
    return None if gate is None else {name: gate[name] for name in GATE}


def _same_as(label: str, groups: dict[str, list[Loop]]) -> str | None:
    """The first row before this one whose diagnosers are this row's: the two differ in name alone."""
    models = [one.model for one in groups[label]]
    for other, group in groups.items():
        if other == label:
            return None
        if [one.model for one in group] == models:
            return other
    return None
