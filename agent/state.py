"""The graph's state: JSON values and paths relative to the run, nothing else."""

from __future__ import annotations

from typing import Any, TypedDict


class LoopState(TypedDict, total=False):
    """State of one planner's thread.

    ``round`` is the round under way, 0 being the baseline, and ``left`` the rounds still to come:
    the loop's own budget, independent of LangGraph's recursion limit.

    ``scores[n]`` are the figures of the diagnoser that stands after round n, ``records[n]["validation"]``
    those of the diagnoser that round n trained. They differ where ``records[n]["rolled_back"]`` is true:
    then ``records[n]["guard"]`` holds the difference and its interval, and ``added`` what was tried in vain.
    ``records[n]["edited"]`` says whether the user changed the plan.
    """

    planner: str
    round: int
    left: int
    facts: str  # folder of `prepare`
    model: str  # folder of the current diagnoser
    model_round: int  # round it was trained in
    synthetic: list[str]  # corpus folders of kept synthetic clips, all rounds
    repeats: str | None  # JSON of extra copies of real clips, all rounds
    added: dict[str, int]  # clips added per class, all rounds
    profile: str  # folder of `diagnose`
    request: dict[str, Any]  # what the planner is given
    plan: dict[str, Any]
    gate: str | None  # folder of `gate`
    gate_open: bool
    candidates: str  # folder of `synthesize`
    scores: list[dict[str, Any]]  # per round, on the plan split
    records: list[dict[str, Any]]  # per round: plan, gate, what was added, validation, rolled_back
    kept: dict[str, Any]  # the fields in `KEPT` as they stood after the last round that was not rolled back
    pending: dict[str, Any]  # the record of the round under way
    test: str | None  # folder of `test`
    note: str  # line for the console


KEPT = ("model", "model_round", "synthetic", "repeats", "added")
"""What a round changes, and what is set back when it is rolled back."""


def first_state(planner: str, rounds: int) -> LoopState:
    """The state before anything was done."""
    return LoopState(
        planner=planner,
        round=0,
        left=rounds,
        synthetic=[],
        repeats=None,
        added={},
        gate=None,
        gate_open=False,
        scores=[],
        records=[],
        kept={},
        pending={"round": 0, "method": "baseline", "added": {}},
        test=None,
        note="",
    )
