"""``resp-agent compare``: planners at equal budget and equal number of trainings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.cli.options import Markdown, Override, check_folder, out, print_rows
from training.errors import ConfigError

if TYPE_CHECKING:
    from agent.config import LoopConfig

SUITES = ("spr2icbhi", "icbhi2spr")


def compare(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for tables, figures and plots.")],
    planners: Annotated[
        list[str] | None,
        typer.Option(help="Planners, e.g. `oversample,fill,thinker`; repeatable.", metavar="NAME,…"),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="Rows by preset or YAML file; `compare-planners` where no planner is named."),
    ] = None,
    pick: Annotated[
        list[str] | None,
        typer.Option(
            help="`hard`, `random` or `easy`, repeatable: a further row for every planner that synthesizes."
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Row that the others are compared with; `oversample` by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Loops per row.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first seed; the others follow.")] = 120,
    tuned_on: Annotated[
        str, typer.Option(help="Seeds that something was tuned on; figures on them are stamped.")
    ] = "0-119",
    config: Annotated[
        str | None, typer.Option(help="The loop that all rows share: preset or YAML file.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Or real recordings: `spr2icbhi` or `icbhi2spr`; needs `RESP_DATA`.")
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Clips per round, instead of the loop's.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, instead of the loop's.")] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="`neural`, or `simulator`: an upper bound on simulated corpora, stamped as such."),
    ] = None,
    override: Override = None,
    work: Annotated[
        Path, typer.Option(help="Keeps corpora, features, models and clips: nothing finished is repeated.")
    ] = Path("cache/planners"),
    markdown: Markdown = False,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Print a JSON line for every figure instead of tables.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print every step of every loop.")] = False,
) -> None:
    """Compare planners: the same corpus, budget and rounds for all, each with and without balanced sampling.

    Every row is run with every seed; `none` and the reference are always among the rows. A seed redraws
    weights and synthetic clips, and a simulated corpus with its subjects. Differences are paired by seed and by
    test subject. Rows share what their loops have in common: corpus, features, the first diagnoser, the
    gate, plans and clips that come out equal. Stopped at any time, the same command goes on.

    Seeds 0 to 119 were used for trying and tuning; comparisons begin at 120, so that no figure is made on what was
    tuned on. Kept results know their inputs, not the code: take a new `--work` after changing the code.

    **Examples**

        resp-agent compare --planners oversample,fill,thinker --budget 240 --out runs/planners

        resp-agent compare --backend simulator --budget 240 --out runs/planners-bound

        RESP_DATA=~/data resp-agent compare --suite spr2icbhi --out runs/planners-icbhi

        resp-agent compare --rows compare-hardness --seeds 3 --out runs/hardness

        resp-agent compare --planners thinker --seeds 1 --first-seed 0 -o diagnoser.fit.steps=60 --out runs/try
    """
    from agent.compare.rows import for_models, loop_config, rows_of, with_planners
    from agent.config import LoopConfig
    from agent.config_compare import CompareConfig
    from training.config import load_config

    wanted = [name.strip() for text in planners or [] for name in text.split(",") if name.strip()]
    source = rows or (None if wanted else "compare-planners")
    given = None if source is None else load_config(CompareConfig, source)
    chosen = with_planners(given, wanted, [_pick(one) for one in pick or []], reference)
    chosen, others = for_models(chosen, override or [])
    table = rows_of(chosen)
    changes = [
        *others,
        *([] if budget is None else [f"budget={budget}"]),
        *([] if rounds is None else [f"rounds={rounds}"]),
        *([] if backend is None else [f"generator.backend={backend}"]),
    ]
    base = load_config(LoopConfig, _loop(config, suite), changes)
    numbers = list(range(first_seed, first_seed + seeds))
    tuned = _tuned(tuned_on, numbers)
    check_folder(out_folder)
    check_folder(work, "--work")
    _check_endpoints([loop_config(base, row, first_seed) for row in table])
    from agent.compare.page import TITLES, difference_table, heading, score_table
    from agent.compare.results import compare as compared
    from agent.compare.run import run_loops
    from agent.compare.write import stream, write

    loops = run_loops(base, table, numbers, work, verbose=verbose)
    results = compared(base, chosen.reference, loops, tuned)
    write(results, loops, out_folder)
    if json_lines:
        for line in stream(results):
            out.print(line, soft_wrap=True, markup=False, highlight=False)
        return
    for text in heading(results):
        out.print(text.replace("**", "").replace("`", ""), markup=False, highlight=False)
    print_rows(score_table(results), markdown)
    for name in ("macro_f1", "tail_macro_f1"):
        out.print(f"{TITLES[name]}: difference to {chosen.reference}, same balancing", highlight=False)
        print_rows(difference_table(results, name), markdown)
    out.print(f"written to {out_folder}", soft_wrap=True, highlight=False)


def _loop(config: str | None, suite: str | None) -> str:
    if config is not None and suite is not None:
        raise ConfigError("give --config or --suite, not both", cure="the suite is a config: small-SUITE")
    if suite is None:
        return config or "quickstart"
    if suite not in SUITES:
        raise ConfigError(f"no suite {suite!r}", cure=f"use one of: {', '.join(SUITES)}; or give --config")
    return f"small-{suite}"


def _pick(text: str) -> Literal["hard", "random", "easy"]:
    known: dict[str, Literal["hard", "random", "easy"]] = {"hard": "hard", "random": "random", "easy": "easy"}
    if text not in known:
        raise ConfigError(f"no pick {text!r}", cure=f"use one of: {', '.join(known)}")
    return known[text]


def _check_endpoints(loops: list[LoopConfig]) -> None:
    """Ask every endpoint that a loop would ask whether its model is there, before anything is trained."""
    from agent.llm import check_endpoint

    asked = [one.llm for one in loops if "llm" in one.planners and one.llm.replay is None]
    for place, settings in enumerate(asked):
        if settings not in asked[:place]:
            check_endpoint(settings)


def _tuned(text: str, seeds: list[int]) -> list[int]:
    """Those of the seeds that lie in ranges such as ``0-99`` or ``0-4,17``; ``none`` is no seed.

    Raises:
        ConfigError: the text is no list of ranges.
    """
    if text == "none":
        return []
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise ConfigError(f"{text!r} is no list of seeds", cure="write it like 0-99 or 0-4,17, or none")
        first, last = int(match[1]), int(match[2] or match[1])
        found |= {seed for seed in seeds if first <= seed <= last}
    return sorted(found)
