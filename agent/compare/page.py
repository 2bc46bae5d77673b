"""A comparison as Markdown: scores, paired differences, sample efficiency, gates, and what the intervals are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.compare.rows import BALANCED

TITLES = {
    "macro_f1": "macro-F1",
    "tail_macro_f1": "tail macro-F1",
    "accuracy": "accuracy",
    "sp": "Sp",
    "se": "Se",
    "score": "Score",
}
Rows = list[list[str]]


def markdown(results: dict[str, Any]) -> str:
    """The page ``compare.md``."""
    parts = ["# Planners compared", *heading(results), "## Test scores", lines(score_table(results))]
    parts.append(
        "Mean ± standard deviation (n - 1) over seeds; each test split was scored once per row and seed. "
        f"`{BALANCED.strip()}`: classes drawn equally often. *Clips* and *trainings* are per loop; the baseline is "
        "the first training."
    )
    parts.append(f"## Differences to `{results['reference']}` with the same balancing")
    for name in results["prior"]:
        parts += [f"### {TITLES[name]}", lines(difference_table(results, name))]
    for label, row in results["rows"].items():
        if "against" in row:
            parts += [f"## `{label}` against every row", lines(against_table(row["against"]))]
    parts += [intervals(results), "## Sample efficiency", lines(efficiency_table(results))]
    parts.append(
        "Macro-F1 on the `plan` split, which the planners see, of the diagnoser that stands after each round, and "
        "how many clips had been added by then."
    )
    gates = gate_table(results)
    if len(gates) > 1:
        parts += ["## Gates", lines(gates)]
        parts.append(
            "A closed gate spends the budget on real clips drawn again: such a loop is `oversample`, whatever "
            "its planner is called, and says nothing of the planner."
        )
    why = [f"- **{row['name']}**: {row['why']}" for row in results["rows"].values() if row["why"]]
    parts += ["## Rows", "\n".join(dict.fromkeys(why))] if why else []
    return "\n\n".join(parts) + "\n"


def heading(results: dict[str, Any]) -> list[str]:
    """What was compared, and what has to be said before any figure."""
    seeds = ", ".join(str(seed) for seed in results["seeds"])
    loop = results["loop"]
    corpus = "simulated" if results["corpus"] == "simulated" else loop["corpus"]["build"]["protocol"]
    said = [
        f"Task `{results['task']}`, {corpus} corpus, {results['rounds']} × {results['budget']} clips, "
        f"weights `{loop['weights']}`, seeds {seeds}. Tail: {', '.join(results['tail'])}."
    ]
    if results["upper_bound"]:
        said.append(f"**{results['upper_bound']}**: clips come from the simulator that made the corpus.")
    if results["tuned_on"]:
        tuned = ", ".join(str(seed) for seed in results["tuned_on"])
        said.append(f"**Seeds {tuned} were used for tuning: these figures support no claim.**")
    if len(results["seeds"]) < 3:
        said.append("**Fewer than three seeds: these figures support no claim.**")
    return said


def score_table(results: dict[str, Any]) -> Rows:
    """Scores of every row, and of always guessing the training majority; a header first."""
    names = list(results["prior"])
    found = [["row", *(TITLES[name] for name in names), "clips", "trainings", "note"]]
    for label, row in results["rows"].items():
        cells = [plus_minus(row["scores"][name]) for name in names]
        counts = [plus_minus(row[name], 0) for name in ("clips", "trainings")]
        found.append([label, *cells, *counts, note(row, results)])
    found.append(["source prior", *(plus_minus(results["prior"][name]) for name in names), "–", "–", ""])
    return found


def difference_table(results: dict[str, Any], name: str) -> Rows:
    """Paired differences of a score with both intervals; a header first."""
    percent = f"{results['level']:.0%}".replace("%", " %")
    found = [["row", "difference", f"over seeds, {percent}", f"over test subjects, {percent}", "note"]]
    for label, row in results["rows"].items():
        if "differences" in row:
            one = row["differences"][name]
            cells = [bounds(one["over_seeds"]), bounds(one["over_subjects"])]
            found.append([label, signed(one["mean"]), *cells, note(row, results)])
    return found


def against_table(against: dict[str, dict[str, Any]]) -> Rows:
    """Paired differences in macro-F1 of one row to each other one, with both intervals; a header first."""
    names = [name for name in ("macro_f1", "tail_macro_f1") if all(name in one for one in against.values())]
    header = [part for name in names for part in (TITLES[name], "over seeds", "over test subjects")]
    found = [["against", *header]]
    for other, scores in against.items():
        cells: list[str] = []
        for name in names:
            one = scores[name]
            cells += [signed(one["mean"]), bounds(one["over_seeds"]), bounds(one["over_subjects"])]
        found.append([other, *cells])
    return found


def efficiency_table(results: dict[str, Any]) -> Rows:
    """Macro-F1 on the plan split and clips added, by round; a header first."""
    found = [["row", *(f"round {number}" for number in range(results["rounds"] + 1))]]
    for label, row in results["rows"].items():
        cells = [
            f"{plus_minus(one['macro_f1'])} ({plus_minus(one['clips'], 0)})" for one in row["efficiency"]
        ]
        found.append([label, *cells])
    return found


def gate_table(results: dict[str, Any]) -> Rows:
    """Verdicts of the gates that were asked; rows of one verdict together."""
    together: dict[tuple[str, ...], list[str]] = {}
    for label, row in results["rows"].items():
        for one in row["loops"]:
            gate = one["gate"]
            if gate is not None:
                ratios = ["–" if r is None else f"{r:.2f}" for r in (gate["macro_ratio"], gate["tail_ratio"])]
                key = (str(one["seed"]), "open" if gate["open"] else "closed", *ratios, gate["reason"])
                together.setdefault(key, []).append(label)
    found = [["seed", "gate", "recall / real", "tail", "reason", "rows"]]
    order = sorted(together.items(), key=lambda item: int(item[0][0]))
    return found + [[*key, ", ".join(labels)] for key, labels in order]


def note(row: dict[str, Any], results: dict[str, Any]) -> str:
    """What keeps a row's figures from being what its name says."""
    loops, said = row["loops"], []
    closed = [one for one in loops if one["fell_back"]]
    if closed:
        where = "" if len(closed) == len(loops) else f" in {len(closed)} of {len(loops)} seeds"
        said.append(f"gate closed{where}: is oversample" + (" there" if where else ""))
    if row["same_as"] is not None:
        said.append(f"same diagnosers as {row['same_as']}")
    for name, text in (
        ("rested", "planned nothing"),
        ("rolled_back", "rolled back"),
        ("stood_in", "planned by the thinker"),
    ):
        rounds = sum(one[name] for one in loops)
        if rounds:
            said.append(f"{text} in {rounds} of {len(loops) * results['rounds']} rounds")
    missing = results["rounds"] * results["budget"] - (row["clips"]["mean"] or 0)
    if row["planner"] != "none" and missing >= 0.5:
        said.append(f"{missing:.0f} clips under budget")
    if row["upper_bound"]:
        said.append(row["upper_bound"])
    return "; ".join(said)


def intervals(results: dict[str, Any]) -> str:
    """What the two intervals are, and what they are not."""
    count = len(results["seeds"])
    if results["corpus"] == "simulated":
        drawn = "the corpus with its test subjects, the weights and the synthetic clips"
        rest = "It holds the chance of the test subjects as well, for each seed has its own."
        subjects = "each seed's own"
    else:
        drawn = "the weights, the order of the clips and the synthetic clips"
        rest = "All seeds share one corpus: of other recordings it says nothing."
        subjects = "the same in all seeds"
    rows = sum("differences" in row for row in results["rows"].values())
    return (
        f"*Over seeds*: Student's interval of the {count} paired differences ({max(0, count - 1)} degrees of "
        f"freedom). A seed draws {drawn}. {rest} *Over test subjects*: percentiles of {results['draws']:,} bootstrap "
        f"draws of test subjects ({subjects}), the same draws for both rows, of the mean over seeds; the trained "
        f"diagnosers are held fixed. Generator and judge are the same throughout. Nothing is corrected for {rows} "
        "rows: about one interval in twenty excludes zero by chance."
    )


def plus_minus(figure: dict[str, Any], digits: int = 3) -> str:
    """Mean ± std; a dash where it is undefined, no std where it is unknown, or would be 0 of a count."""
    if figure["mean"] is None:
        return "–"
    std = figure["std"]
    mean = f"{figure['mean']:,.{digits}f}"
    return mean if std is None or (digits == 0 and std < 0.5) else f"{mean} ± {std:.{digits}f}"


def signed(value: float | None) -> str:
    """A difference with its sign; a dash where it is undefined."""
    return "–" if value is None else f"{value:+.3f}"


def bounds(pair: Sequence[float] | None) -> str:
    """An interval; a dash where it is undefined."""
    return "–" if pair is None else f"[{pair[0]:+.3f}, {pair[1]:+.3f}]"


def lines(rows: Rows) -> str:
    """A Markdown table; figures to the right."""
    marks = ["---" if name in ("row", "note", "reason", "rows", "gate") else "---:" for name in rows[0]]
    cells = [[cell.replace("|", "/") for cell in row] for row in (rows[0], marks, *rows[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
