"""Score diagnosers on a suite: folds put together, seeds side by side, mean ± std over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diagnoser.bootstrap import percentiles
from diagnoser.evaluate import Judged, judge, record_of, task_of
from diagnoser.figures import distributions
from diagnoser.metrics import number
from diagnoser.predictions import Predictions
from diagnoser.suites import SuitePart, get_suite, load_suite, suite_names
from resp229k.corpus import Corpus
from training.errors import ContaminationError, DataError
from training.model import read_provenance
from training.statistics import deviation

ALL = "all"


@dataclass
class Run:
    """Diagnosers that make one result: all of one seed, each for parts of its own."""

    seed: int | None
    models: dict[int, Path] = field(default_factory=dict)  # index of the part -> folder


def evaluate_suite(
    models: Sequence[Path],
    suite: str,
    *,
    root: str | None = None,
    work: Path,
    allow_contaminated: bool = False,
    draws: int = 1000,
    seed: int = 0,
    save: Path | None = None,
) -> dict[str, Any]:
    """Figures of diagnosers on a suite.

    Each diagnoser is scored on the parts whose test subjects it does not know: that finds the fold it
    was trained for. Those of one seed make one run; their folds are put together before anything is
    scored. Several seeds are several runs.

    Args:
        models: folders written by ``train_diagnoser``.
        suite: of :func:`diagnoser.suites.suite_names`.
        root: folder of the sources; None takes ``${RESP_DATA}``.
        work: keeps the suite's corpora.
        allow_contaminated: score a diagnoser that knows the test subjects of every part, and say so.
        draws: bootstrap samples, over subjects.
        seed: of the bootstrap.
        save: folder for the predictions, one NPZ each run.

    Raises:
        ConfigError: there is no such suite.
        ContaminationError: a diagnoser knows test subjects of every part.
        DataError: audio is missing, or a diagnoser is for another task.
        CheckpointError: a folder holds no diagnoser.
    """
    chosen = get_suite(suite)
    for model in models:
        if (task := task_of(model)) != chosen.task:
            raise DataError(f"the diagnoser is for {task}, suite {suite} for {chosen.task}", path=model)
    parts = load_suite(suite, root=root, work=work)
    report = evaluate_parts(
        models, parts, allow_contaminated=allow_contaminated, draws=draws, seed=seed, save=save
    )
    same = [run["preprocess"] == chosen.preprocess.model_dump(mode="json") for run in report["runs"]]
    return {"suite": suite, "clip": chosen.clip, "prepared_as_suite": all(same), **report}


def evaluate_parts(
    models: Sequence[Path],
    parts: Sequence[SuitePart],
    *,
    split: str = "test",
    allow_contaminated: bool = False,
    cache: Path | None = None,
    draws: int = 1000,
    seed: int = 0,
    save: Path | None = None,
) -> dict[str, Any]:
    """As :func:`evaluate_suite`, on parts of one's own."""
    if not models:
        raise DataError("no diagnoser to score", cure="give --model")
    runs = assign(models, parts, split=split, allow_contaminated=allow_contaminated)
    records: list[dict[str, Any]] = []
    pooled = []
    for place, run in enumerate(runs):
        judged = [
            _judge(model, parts[index], split, allow_contaminated, cache)
            for index, model in sorted(run.models.items())
        ]
        predictions = Predictions.pool([one.predictions for one in judged])
        if save is not None:
            predictions.save(save / f"predictions-{place}.npz")
        record = record_of(judged, task=parts[0].task, split=split, draws=draws, seed=seed)
        # The last two parts: a user's folders stay private.
        called = {parts[i].name: "/".join(model.parts[-2:]) for i, model in sorted(run.models.items())}
        shared = sum(len(parts[i].shared) for i in run.models)
        records.append({"seed": run.seed, "models": called, "shared_subjects": shared, **record})
        pooled.append((predictions, record["tail"]))
    return {
        "task": parts[0].task,
        "split": split,
        "parts": [
            {"name": part.name, **_size(part.corpus.subset(split=split, task=part.task))} for part in parts
        ],
        "runs": records,
        "summary": summarise(pooled, task=parts[0].task, draws=draws, seed=seed),
    }


def evaluate_all(models: Sequence[Path], **options: Any) -> dict[str, Any]:
    """Every suite of the diagnosers' tasks; one that cannot be scored is listed with the reason.

    Arguments as :func:`evaluate_suite`.

    Raises:
        DataError: none could be scored.
    """
    tasks = {model: task_of(model) for model in models}
    save = options.pop("save", None)
    reports, skipped = {}, {}
    for name in suite_names():
        fitting = [model for model, task in tasks.items() if task == get_suite(name).task]
        if not fitting:
            continue
        try:
            folder = None if save is None else save / folder_of(name)
            reports[name] = evaluate_suite(fitting, name, save=folder, **options)
        except (DataError, ContaminationError) as error:
            skipped[name] = error.message  # without the path: a user's folders stay private
    if not reports:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise DataError(f"no suite could be scored: {reasons}")
    return {"suite": ALL, "suites": reports, "skipped": skipped}


def folder_of(suite: str) -> str:
    """A suite's name as that of a folder."""
    return suite.replace(":", "-")


def assign(
    models: Sequence[Path], parts: Sequence[SuitePart], *, split: str, allow_contaminated: bool
) -> list[Run]:
    """Which diagnoser is scored on which parts.

    Raises:
        ContaminationError: a diagnoser knows test subjects of every part, and that is not allowed.
    """
    subjects = [set(p.corpus.subset(split=split, task=p.task).subjects) - p.shared for p in parts]
    runs: list[Run] = []
    for model in models:
        known = read_provenance(model)
        met = known.known
        clean = {index for index, theirs in enumerate(subjects) if not theirs & met}
        if not clean and not allow_contaminated:
            fewest = min(len(theirs & met) for theirs in subjects)
            raise ContaminationError(
                f"{fewest} test subjects or more of every part were trained or selected on",
                path=model,
                cure="give the diagnosers of this suite's folds, or pass --allow-contaminated, "
                "which stamps the output",
            )
        wanted = clean or set(range(len(parts)))
        run = next((r for r in runs if r.seed == known.seed and not wanted & set(r.models)), None)
        if run is None:
            run = Run(known.seed)
            runs.append(run)
        run.models |= dict.fromkeys(wanted, model)
    return runs


def summarise(
    runs: Sequence[tuple[Predictions, Sequence[str]]], *, task: str, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Mean and standard deviation over runs, and the interval of that mean over subjects.

    The interval redraws the test subjects, the same for all runs: it does not hold the spread of seeds.
    Runs of different subjects (a fold is missing) have no common interval.

    Args:
        runs: predictions and the names of the tail classes.
        task: of the labels.
        draws: bootstrap samples.
        seed: of the bootstrap.
    """
    found = [distributions(p, tail=tail, draws=draws, seed=seed, task=task) for p, tail in runs]
    alike = len({tuple(sorted(set(p.subject_ids))) for p, _ in runs}) == 1
    summary: dict[str, Any] = {}
    for name in found[0]:
        values = [one[name][0] for one in found if name in one]
        known = [value for value in values if np.isfinite(value)]
        if not known:
            continue
        low, high = percentiles(np.mean([one[name][1] for one in found], axis=0)) if alike else (None, None)
        summary[name] = {
            "mean": number(np.mean(known)),
            "std": number(deviation(known)),
            "interval": None if low is None or high is None else [number(low), number(high)],
        }
    return {"runs": len(runs), "same_subjects": alike, "figures": summary}


def _judge(model: Path, part: SuitePart, split: str, allow_contaminated: bool, cache: Path | None) -> Judged:
    return judge(
        model,
        part.corpus,
        split,
        part.task,
        allow_contaminated=allow_contaminated,
        shared=part.shared,
        cache=cache,
    )


def _size(corpus: Corpus) -> dict[str, Any]:
    return {"clips": len(corpus), "subjects": len(corpus.subjects), "corpus": corpus.digest}
