"""Finished rows → figures: folds pooled per seed, mean ± std over seeds, differences to the diagnoser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diagnoser.baselines.rows import FULL, WEAVING
from diagnoser.baselines.run import Done
from diagnoser.bootstrap import percentiles
from diagnoser.evaluate import trained_on
from diagnoser.figures import distributions, scored, tail_of
from diagnoser.metrics import number
from diagnoser.predictions import Predictions
from diagnoser.suites import SuitePart
from training.statistics import deviation

Runs = Mapping[str, Sequence[Predictions]]  # row → one set of predictions per seed
Masks = Mapping[str, Sequence[np.ndarray]]  # whether training had clips of each test clip's class, as Runs
Distribution = dict[str, tuple[float, np.ndarray]]

SOUNDS = ("icbhi4", "spr_event", "spr_record")  # whose normal class is a sound: Sp, Se and Score are theirs


def main_score(task: str) -> str:
    """The score that a task's table is led by."""
    return "score" if task in SOUNDS else "macro_f1"


def compare(
    done: Sequence[Done], parts: Sequence[SuitePart], *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """All figures of some finished rows on the parts of one suite.

    Beside the clips: those of classes that occur in training, where some do not, and the vote of each
    subject's clips, where a subject has one label.

    Returns:
        ``task, main, reference, rows, training_clips, tail, unseen, parts``, ``figures`` (what is judged → row →
        :func:`summary`) and ``trainings`` (row, seed, part, what was chosen, its scores on the part).
    """
    task = parts[0].task
    trained = {part.name: part.corpus.subset(split="train", task=task).counts(task) for part in parts}
    counts: Counter[str] = Counter()
    for some in trained.values():
        counts.update(some)
    options: dict[str, Any] = {"tail": tail_of(dict(counts)), "draws": draws, "seed": seed, "task": task}
    together = by_seed(done)
    runs = {row: [Predictions.pool([one.test for one in d]) for d in some] for row, some in together.items()}
    seen = {
        row: [np.concatenate([trained_on(one.test, trained[one.part]) for one in d]) for d in some]
        for row, some in together.items()
    }
    reference = next((name for name in (WEAVING, FULL) if name in runs), None)
    return {
        "task": task,
        "main": main_score(task),
        "reference": reference,
        "rows": list(runs),
        "training_clips": dict(counts),
        "tail": list(options["tail"]),
        "unseen": _unseen(runs, seen),
        "parts": [{"name": p.name, "shared_subjects": len(p.shared), **_sizes(p)} for p in parts],
        "figures": {
            judged: summaries(theirs, reference, **options) for judged, theirs in _views(runs, seen).items()
        },
        "trainings": [
            {
                "row": one.row,
                "seed": one.seed,
                "part": one.part,
                "notes": one.notes,
                "scores": {
                    name: number(value)
                    for name, (value, _) in distributions(one.test, **{**options, "draws": 1}).items()
                },
            }
            for one in done
        ],
    }


def by_seed(done: Sequence[Done]) -> dict[str, list[list[Done]]]:
    """Row → per seed what all parts' trainings gave."""
    found: dict[str, dict[int, list[Done]]] = {}
    for one in done:
        found.setdefault(one.row, {}).setdefault(one.seed, []).append(one)
    return {row: [parts for _, parts in sorted(seeds.items())] for row, seeds in found.items()}


def _unseen(runs: Runs, seen: Masks) -> list[str]:
    """Classes of test clips whose training, in their part, had none of the class."""
    row, (first, *_) = next(iter(runs.items()))
    return [first.classes[index] for index in np.unique(first.labels[~seen[row][0]])]


def _views(runs: Runs, seen: Masks) -> dict[str, Runs]:
    """What is judged: the clips, those of the classes that were trained on, and the subjects' votes."""
    first = next(iter(seen.values()))[0]
    views: dict[str, Runs] = {"clips": runs}
    if not first.all() and first.any():
        views["clips of trained classes"] = {
            row: [one.take(mask) for one, mask in zip(some, seen[row], strict=True)]
            for row, some in runs.items()
        }
    for judged, theirs in tuple(views.items()):
        one = next(iter(theirs.values()))[0]
        voted = one.vote()
        if voted is not None and len(voted.labels) < len(one.labels):
            votes = {row: [v for p in some if (v := p.vote()) is not None] for row, some in theirs.items()}
            views[judged.replace("clips", "subjects")] = votes
    return views


def summaries(runs: Runs, reference: str | None, **options: Any) -> dict[str, dict[str, Any]]:
    """Row → its :func:`summary`, beside that of the reference."""
    drawn = {row: [distributions(one, **options) for one in some] for row, some in runs.items()}
    return {
        row: {
            "scores": summary(found, drawn[reference] if reference not in (None, row) else None),
            "per_seed": [
                {name: one[name] for name in ("clips", "subjects", "recall", "f1", "support")}
                for one in (scored(p, **{**options, "draws": 1}) for p in runs[row])
            ],
        }
        for row, found in drawn.items()
    }


def summary(
    seeds: Sequence[Distribution], reference: Sequence[Distribution] | None = None
) -> dict[str, dict[str, Any]]:
    """Score → its values per seed, mean, std (n - 1), interval, and the same of its difference to the reference.

    The interval is that of the mean over the seeds, over subjects: it does not hold the spread of seeds.
    Differences are taken draw by draw, each draw the same subjects for both.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in seeds[0]:
        values = [one[name][0] for one in seeds]
        draws = np.mean([one[name][1] for one in seeds], axis=0)
        found[name] = {
            "values": [number(value) for value in values],
            "mean": number(np.mean(values)),
            "std": number(deviation(values)),
            "interval": [number(bound) for bound in percentiles(draws)],
        }
        if reference is not None and name in reference[0]:
            theirs = np.mean([one[name][1] for one in reference], axis=0)
            mean = np.mean([one[name][0] for one in reference])
            found[name]["difference"] = {
                "mean": number(np.mean(values) - mean),
                "interval": [number(bound) for bound in percentiles(draws - theirs)],
            }
    return found


def _sizes(part: SuitePart) -> dict[str, dict[str, int]]:
    found = {}
    for split in ("train", "select", "test"):
        some = part.corpus.subset(split=split, task=part.task)
        found[split] = {"clips": len(some), "subjects": len(some.subjects)}
    return found
