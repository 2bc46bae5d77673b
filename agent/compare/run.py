"""Run the loops of a comparison. Rows share whatever their nodes have in common; what is finished is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agent.compare.rows import Row, loop_config
from agent.config import LoopConfig, RealCorpus, SimulatedCorpus
from agent.graph import STEPS_PER_ROUND, build_graph
from agent.rooms import PREDICTIONS, Rooms
from agent.state import LoopState, first_state
from agent.stop import Stopped, stoppable
from agent.summary import make_results
from agent.work import Work
from resp229k.audio import Preprocess
from training.config import Strict
from training.errors import RunError
from training.files import digest
from training.progress import about, console
from training.run import Run, open_run

FORMAT = 1  # raised when results of earlier code would differ

MakeRooms = Callable[[LoopConfig, Path], Rooms]


class Home(Strict):
    """What a folder of loops stands on; nodes of rows and seeds with equal inputs share their outputs there."""

    format: int
    corpus: SimulatedCorpus | RealCorpus
    preprocess: Preprocess
    threads: int  # sums depend on it


@dataclass(frozen=True)
class Loop:
    """A finished loop.

    Attributes:
        row: whose.
        seed: of corpus (if simulated), weights and draws.
        results: what ``summary.json`` of a run holds under ``results``.
        record: the row's part of them: ``rounds``, ``added`` and ``test``.
        model: the last diagnoser, by its place in the home; equal inputs, equal place.
        predictions: file of what it said of the test split.
        seconds: that this process spent on it.
        fresh: whether anything was still to be done.
    """

    row: Row
    seed: int
    results: dict[str, Any]
    record: dict[str, Any]
    model: str
    predictions: Path
    seconds: float
    fresh: bool


def run_loops(
    base: LoopConfig,
    rows: Sequence[Row],
    seeds: Sequence[int],
    work: Path,
    *,
    verbose: bool = False,
    rooms: MakeRooms = Rooms,
) -> list[Loop]:
    """Run every row with every seed, seed by seed, so that an interruption leaves whole seeds.

    Run again, finished steps are read from ``work``. Their outputs depend on their inputs, not on the code:
    choose another ``work`` after a change of the code.

    Args:
        base: what the rows share.
        rows: of the comparison.
        seeds: of the loops.
        work: keeps corpora, features, models and clips.
        verbose: print every step, as the loop does.
        rooms: makes what stands in for the other packages (tests).

    Raises:
        ConfigError: a row's value is wrong.
        RunError: another process works in ``work``.
        Stopped: the process was asked to end; the step under way was finished.
    """
    configs = {(row.label, seed): loop_config(base, row, seed) for seed in seeds for row in rows}
    found: list[Loop] = []
    with stoppable():
        try:
            for seed in seeds:
                with open_home(configs[rows[0].label, seed], work) as home:
                    for row in rows:
                        found.append(_run(home, row, configs[row.label, seed], verbose, rooms))
                        _tell(found, len(configs))
        except Stopped as stop:
            console.print(f"stopped by {stop.signal}; the same command goes on from here", highlight=False)
            raise
    return found


@contextmanager
def open_home(config: LoopConfig, work: Path) -> Iterator[Run]:
    """The folder of all loops on a corpus with one preparation, held until the block ends.

    Raises:
        RunError: another process holds it.
    """
    corpus = config.corpus
    home = Home(format=FORMAT, corpus=corpus, preprocess=config.preprocess, threads=config.threads)
    name = f"sim-{corpus.simulate.seed}" if corpus.kind == "simulated" else Path(corpus.build.protocol).stem
    folder = work / f"{name}-{digest(home.model_dump(mode='json'))[:8]}"
    with ExitStack() as held:
        try:
            run = held.enter_context(open_run(folder, home, resume=folder.is_dir()))
        except RunError as error:
            raise RunError(
                error.message, path=folder, cure="wait for it, or choose another --work"
            ) from error
        yield run


def _run(home: Run, row: Row, config: LoopConfig, verbose: bool, rooms: MakeRooms) -> Loop:
    work = Work(home, config, rooms(config, home.folder))
    planner = row.config.planner
    began = time.monotonic()
    # Without checkpoints: every step that was finished is found by its inputs.
    graph = build_graph(work)
    with _quiet(not verbose):
        state = cast(
            LoopState,
            graph.invoke(
                first_state(planner, config.rounds),
                {"recursion_limit": STEPS_PER_ROUND * (config.rounds + 2)},
            ),
        )
    results = make_results(work, {planner: state})
    predictions = home.folder / (state["test"] or "") / PREDICTIONS
    if not predictions.is_file():
        raise RunError("is missing", path=predictions, cure="remove the folder of its corpus in --work")
    return Loop(
        row=row,
        seed=config.seed,
        results=results,
        record=results["planners"][planner],
        model=f"{home.folder.name}/{state['model']}",
        predictions=predictions,
        seconds=round(time.monotonic() - began, 3),
        fresh=bool(work.fresh),
    )


@contextmanager
def _quiet(on: bool) -> Iterator[None]:
    before, console.quiet = console.quiet, on or console.quiet
    try:
        yield
    finally:
        console.quiet = before


def _tell(found: Sequence[Loop], total: int) -> None:
    """A line on the last loop, with about how long the others take: as long as those that were not kept."""
    last = found[-1]
    score = last.record["test"]["metrics"]["macro_f1"]["value"]
    took = f"{last.seconds:.0f} s" if last.fresh else "kept"
    paid = [one.seconds for one in found if one.fresh]
    left = total - len(found)
    more = f", {about(left * sum(paid) / len(paid))} left" if paid and left else ""
    console.print(
        f"{len(found)} of {total}: {last.row.label}, seed {last.seed}: macro-F1 {score:.3f}, {took}{more}",
        highlight=False,
        soft_wrap=True,
    )
