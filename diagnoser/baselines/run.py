"""Train rows on the parts of a suite, several seeds each; what was finished before is not repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import beats
from diagnoser.baselines.choose import Fitted
from diagnoser.baselines.data import PartData
from diagnoser.baselines.rows import SAME, VARIANTS, get_row, slug
from diagnoser.baselines.train import fit_predict
from diagnoser.config import DiagnoserTrainConfig
from diagnoser.predictions import Predictions
from diagnoser.suites import SuitePart
from resp229k.corpus import Corpus
from training.errors import ConfigError, ContaminationError
from training.files import digest, new_folder, read_json, write_json
from training.progress import console

FORMAT = 1  # raised when results of earlier code would differ
PLACES = frozenset({"corpus", "task", "preprocess", "cache", "max_gb", "seed", "beats"})
"""Fields of the config that say where things are, or that the part's own key holds."""


class Done(NamedTuple):
    """One finished training."""

    row: str
    seed: int
    part: str
    test: Predictions
    notes: dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """What is compared on what.

    Attributes:
        parts: of a suite, or one of one's own.
        rows: names, in the order of the table.
        config: the diagnoser's; corpus, task, preprocessing, seed and cache are the parts'.
        seeds: 0 … seeds - 1, of the rows that a seed changes.
        work: keeps features, frames and finished rows.
    """

    parts: Sequence[SuitePart]
    rows: Sequence[str]
    config: DiagnoserTrainConfig
    seeds: int
    work: Path


def run_rows(plan: Benchmark) -> list[Done]:
    """Train what is not finished, part by part, and read what is.

    Raises:
        ConfigError: there is no such row, or the config does not fit.
        DataError: a part lacks clips.
        AudioError: a recording cannot be used, named by path.
        NonFiniteError: a training diverged.
    """
    for name in plan.rows:
        get_row(name)
        if name in VARIANTS:
            VARIANTS[name].applied(plan.config)  # refused here, not after hours
    found: list[Done] = []
    count = len(plan.parts) * sum(plan.seeds if get_row(name).seeded else 1 for name in plan.rows)
    for part in plan.parts:
        trainer = _Trainer(PartData(part, plan.config, plan.work), plan)
        for name, seed in _jobs(plan):
            console.print(f"{len(found) + 1} of {count}: {part.name}, {name}, seed {seed}", highlight=False)
            fitted = trainer.finished(name, seed)
            found.append(Done(name, seed, part.name, fitted.test, fitted.notes))
    return found


def _jobs(plan: Benchmark) -> Iterator[tuple[str, int]]:
    for name in plan.rows:
        for seed in range(plan.seeds if get_row(name).seeded else 1):
            yield name, seed


class _Trainer:
    """Trains rows on one part, or reads them from an earlier call."""

    def __init__(self, data: PartData, plan: Benchmark):
        self.data = data
        self.folder = plan.work / "rows" / slug(data.part.name)

    def finished(self, name: str, seed: int) -> Fitted:
        """A row's answers, trained now if it was not before."""
        same = SAME.get(name, name)
        row = get_row(same)
        settings = self.data.config.model_dump(mode="json", exclude=set(PLACES)) if row.budget else None
        key = digest([FORMAT, same, seed, settings, self.data.key])
        folder = self.folder / f"{slug(same)}-{seed}-{key[:12]}"
        if not folder.is_dir():
            needed = {one: self.finished(one, seed) for one in row.needs}
            begun = time.perf_counter()
            fitted = fit_predict(same, self.data, seed, needed)
            notes = {**fitted.notes, "seconds": round(time.perf_counter() - begun, 1)}
            with new_folder(folder) as temporary:
                fitted.select.save(temporary / "select.npz")
                fitted.test.save(temporary / "test.npz")
                write_json(temporary / "notes.json", notes)
        return Fitted(
            Predictions.load(folder / "select.npz"),
            Predictions.load(folder / "test.npz"),
            read_json(folder / "notes.json"),
        )


def prepared(
    parts: Sequence[SuitePart],
    config: DiagnoserTrainConfig,
    *,
    allow_contaminated: bool = False,
    leave_out_known: bool = False,
) -> tuple[list[SuitePart], int]:
    """The parts, and how many of their test subjects the encoder was trained or chosen on.

    Subjects that a split as published shares do not count. All rows are judged on the same clips, those
    that do not hear with the encoder too.

    Args:
        parts: of a suite.
        config: names the encoder.
        allow_contaminated: keep them.
        leave_out_known: take their clips out of test.

    Raises:
        ConfigError: both are asked for, or a part has no test clip left.
        ContaminationError: there are some, and neither is asked for.
        CheckpointError: there is no encoder.
    """
    if allow_contaminated and leave_out_known:
        raise ConfigError("known subjects are either scored or left out", cure="give one of the two options")
    heard = beats.load_encoder(beats.find(config.beats.weights)).provenance.known
    met: set[str] = set()
    found = []
    for part in parts:
        known = (set(part.corpus.subset(split="test", task=part.task).subjects) - part.shared) & heard
        met |= known
        clips = [c for c in part.corpus.clips if c.split != "test" or c.subject_id not in known]
        left = replace(part, corpus=Corpus(part.corpus.folder, clips)) if leave_out_known else part
        if not len(left.corpus.subset(split="test", task=part.task)):
            raise ConfigError(
                f"the encoder was trained on all test subjects of {part.name}",
                path=config.beats.weights,
                cure="give another encoder with -o beats.weights=…",
            )
        found.append(left)
    if met and not (allow_contaminated or leave_out_known):
        raise ContaminationError(
            f"the encoder was trained on {len(met)} test subjects, e.g. {min(met)}",
            path=config.beats.weights,
            cure="give another encoder with -o beats.weights=…, pass --leave-out-known, which judges every "
            "row on the others, or --allow-contaminated, which stamps the output",
        )
    return found, len(met)
