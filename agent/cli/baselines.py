"""``resp-agent baselines``: the diagnoser beside simple models and other networks, and its ablation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.options import Markdown, Override, check_folder, out, print_rows
from training.errors import ConfigError

if TYPE_CHECKING:
    from diagnoser.config import DiagnoserTrainConfig
    from diagnoser.suites import SuitePart

OWN = "own corpus"
FIXED = {"corpus", "task", "preprocess", "seed", "cache", "max_gb", "init", "synthetic", "repeats"}
"""Fields of the diagnoser's config that say nothing here: the parts have them, or they must be empty."""


def baselines(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for tables, figures and plot.")],
    suite: Annotated[
        str | None, typer.Option(help="Suite of real recordings, e.g. `spr2icbhi`; needs `RESP_DATA`.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Or a corpus folder with train, select and test.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Which labels of `--corpus`.")] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="One row, repeatable; all by default.", metavar="NAME")
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="The variants of the diagnoser instead of the baselines.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per row and part.")] = 3,
    config: Annotated[
        str | None,
        typer.Option(help="The diagnoser's config: YAML file or preset of `resp-agent train diagnoser`."),
    ] = None,
    override: Override = None,
    root: Annotated[str | None, typer.Option(help="Folder of the sources; `RESP_DATA` by default.")] = None,
    work: Annotated[
        Path, typer.Option(help="Keeps corpora, features and finished rows, which are not repeated.")
    ] = Path("cache/baselines"),
    allow_contaminated: Annotated[
        bool,
        typer.Option(
            "--allow-contaminated", help="Score subjects that the encoder was trained on; stamps the output."
        ),
    ] = False,
    leave_out_known: Annotated[
        bool,
        typer.Option("--leave-out-known", help="Leave those subjects out of test, for every row."),
    ] = False,
    markdown: Markdown = False,
) -> None:
    """Compare the diagnoser with baselines: same clips, same preparation, same steps, same choice.

    Every row trains on `train` and is chosen, stopped and calibrated on `select`; `test` is only predicted.
    Networks get the steps, batches and stopping of `--config`. Folds are put together before they are
    scored. Differences to `weaving`, the diagnoser, are taken subject by subject.

    Rows: `majority`, `source-prior`, `metadata-only`, `text-words`, `text-only`, `trees`, `cnn`, `ast`,
    `pooled`, `pooled-mlp`, `audio-only`, `late-concat`, `late-vote`, `weaving`. With `--ablation`: late
    fusion or weaving, with the narrative, raw fields or no text, with and without anchors, e.g.
    `late, raw, no anchors`; the config of each stands in `OUT/configs`.

    **Examples**

        RESP_DATA=~/data resp-agent baselines --suite spr2icbhi --out runs/baselines

        resp-agent baselines --suite icbhi --row weaving --row trees --seeds 1 --out runs/quick

        resp-agent baselines --suite spr2icbhi --ablation --out runs/ablation

        resp-agent baselines --corpus corpora/sim --task disease16 -o fit.steps=100 --out runs/sim
    """
    check_folder(out_folder)
    check_folder(work, "--work")
    settings = _config(config, override or [], suite, corpus, task)
    rows = _rows(row, ablation)
    parts = _parts(suite, corpus, settings, root, work)
    from diagnoser.baselines.compare import compare
    from diagnoser.baselines.report import table, write_report
    from diagnoser.baselines.run import Benchmark, prepared, run_rows

    parts, met = prepared(
        parts, settings, allow_contaminated=allow_contaminated, leave_out_known=leave_out_known
    )
    if ablation:
        _write_configs(rows, settings, out_folder)
    done = run_rows(Benchmark(parts=parts, rows=rows, config=settings, seeds=seeds, work=work))
    report: dict[str, Any] = {
        "title": suite or OWN,
        "seeds": seeds,
        "contaminated": met if allow_contaminated else 0,
        "left_out": met if leave_out_known else 0,
        "preprocess": parts[0].preprocess.model_dump(mode="json"),
        "config": settings.model_dump(mode="json", exclude=FIXED),
        **compare(done, parts),
    }
    write_report(report, out_folder)
    for judged in report["figures"]:
        out.print(f"{report['title']}, {report['task']}, by {judged}", highlight=False)
        print_rows(table(report, judged), markdown)
    out.print(f"written to {out_folder}", soft_wrap=True, highlight=False)


def _config(
    source: str | None, overrides: list[str], suite: str | None, corpus: Path | None, task: str | None
) -> DiagnoserTrainConfig:
    """The diagnoser's config; what the suite or the corpus fixes cannot be given.

    Raises:
        ConfigError: neither or both of suite and corpus, no task, or a key that is fixed.
    """
    from diagnoser.config import DiagnoserTrainConfig
    from diagnoser.suites import get_suite
    from training.config import load_config, parse_override

    if (suite is None) == (corpus is None):
        raise ConfigError("give --suite or --corpus, one of them", cure="e.g. --suite spr2icbhi")
    if corpus is not None and task is None:
        raise ConfigError("--corpus needs a task", cure="e.g. --task disease16")
    if suite is not None and task is not None:
        raise ConfigError(f"suite {suite} has its own task", cure="leave out --task")
    fixed = {"corpus", "task", "seed", "cache", *(("preprocess",) if suite else ())}
    for text in overrides:
        key = parse_override(text)[0][0]
        if key in fixed:
            raise ConfigError(f"{key} is fixed here, by {'the suite' if suite else 'the options'}",
                              cure=f"leave out -o {text}")  # fmt: skip
    chosen = get_suite(suite).task if suite else task
    return load_config(DiagnoserTrainConfig, source, ["corpus=.", f"task={chosen}", *overrides])


def _rows(given: list[str] | None, ablation: bool) -> list[str]:
    from diagnoser.baselines.rows import ABLATION, BASELINES, get_row

    for name in given or []:
        get_row(name)
    return list(dict.fromkeys(given or (ABLATION if ablation else BASELINES)))


def _parts(
    suite: str | None, corpus: Path | None, config: DiagnoserTrainConfig, root: str | None, work: Path
) -> Sequence[SuitePart]:
    from diagnoser.suites import SuitePart, load_suite
    from resp229k.corpus import Corpus

    if suite is not None:
        return load_suite(suite, root=root, work=work / "corpora")
    assert corpus is not None
    return [SuitePart(corpus.resolve().name, Corpus.open(corpus), config.task, config.preprocess)]


def _write_configs(rows: Sequence[str], config: DiagnoserTrainConfig, folder: Path) -> None:
    """One YAML for each variant: the variant, and the diagnoser's config that it comes to."""
    import yaml

    from diagnoser.baselines.rows import VARIANTS, slug
    from training.files import write_text

    for name in rows:
        if name not in VARIANTS:
            continue
        how = VARIANTS[name]
        values = {
            "variant": how.model_dump(mode="json"),
            "diagnoser": how.applied(config).model_dump(mode="json", exclude=FIXED),
        }
        write_text(folder / "configs" / f"{slug(name)}.yaml", yaml.safe_dump(values, sort_keys=False))
