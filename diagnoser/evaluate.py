"""Score a diagnoser on a split: intervals over subjects, a source-prior row, no known subjects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diagnoser.figures import figures, scored, source_prior, tail_of
from diagnoser.predictions import Predictions
from resp229k.audio import Preprocess
from resp229k.corpus import Corpus
from training.errors import CheckpointError, ContaminationError, DataError
from training.files import digest, read_json
from training.model import read_provenance

__all__ = [
    "Judged",
    "evaluate",
    "figures",
    "judge",
    "record_of",
    "source_prior",
    "task_of",
]


@dataclass(frozen=True)
class Judged:
    """A diagnoser's predictions of one test set, and what has to be said beside them.

    Attributes:
        predictions: of the test set.
        counts: real training clips per class.
        met: test subjects that the weights know.
        selected: whether some of those chose the checkpoint.
        corpus: digest of the test set's corpus.
        preprocess: how the diagnoser hears clips.
    """

    predictions: Predictions
    counts: dict[str, int]
    met: list[str]
    selected: bool
    corpus: str
    preprocess: Preprocess

    @property
    def majority(self) -> int:
        """The class that most real training clips have, whatever was repeated or synthesized."""
        names = self.predictions.classes
        return max(range(len(names)), key=lambda index: self.counts.get(names[index], 0))


def evaluate(
    model_folder: Path,
    corpus: Corpus | Path,
    split: str = "test",
    task: str | None = None,
    *,
    tail: Collection[str] | None = None,
    allow_contaminated: bool = False,
    store: Any = None,
    cache: Path | None = None,
    save: Path | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of a diagnoser on one split of a corpus.

    Args:
        model_folder: written by ``train_diagnoser``.
        corpus: or its folder.
        split: train, select, plan, valid or test.
        task: must be the diagnoser's; by default it is.
        tail: names of the rare classes; None takes those under 1 % of the real training clips.
        allow_contaminated: score subjects that the weights were trained or selected on, and say so.
        store: features of the clips; by default computed once.
        cache: folder of the feature stores; by default ``features`` beside the corpus's audio.
        save: also write the predictions there (NPZ).
        draws: bootstrap samples of the intervals, over subjects.
        seed: of the bootstrap.

    Raises:
        ContaminationError: the split holds subjects that the weights were trained on, or that chose
            the checkpoint and the temperature.
        DataError: no such clips, or the diagnoser is for another task.
        CheckpointError: the folder holds no diagnoser.
    """
    corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    judged = judge(
        model_folder, corpus, split, task, allow_contaminated=allow_contaminated, store=store, cache=cache
    )
    if save is not None:
        judged.predictions.save(save)
    return record_of([judged], task=task_of(model_folder), split=split, tail=tail, draws=draws, seed=seed)


def judge(
    model_folder: Path,
    corpus: Corpus,
    split: str = "test",
    task: str | None = None,
    *,
    allow_contaminated: bool = False,
    shared: Collection[str] = (),
    store: Any = None,
    cache: Path | None = None,
) -> Judged:
    """Predict one split; arguments and errors as :func:`evaluate`.

    ``shared`` are subjects that a split as published puts on both sides: they are no contamination there.
    """
    known = read_provenance(model_folder)
    from diagnoser.predict import Predictor

    predictor = Predictor.load(model_folder)
    if task is not None and task != predictor.task:
        raise DataError(f"the diagnoser is for {predictor.task}, not for {task}", path=model_folder)
    part = corpus.subset(split=split, task=predictor.task)
    if not len(part):
        raise DataError(f"no {split} clips with a label of {predictor.task}", path=corpus.folder)
    met = sorted((set(part.subjects) - set(shared)) & known.known)
    if met and not allow_contaminated:
        raise ContaminationError(
            f"{len(met)} of {len(part.subjects)} subjects of {split} were trained or selected on, "
            f"e.g. {met[0]}",
            path=corpus.folder,
            cure="score another split, or pass --allow-contaminated, which stamps the output",
        )
    features = store if store is not None else predictor.build_store(part, cache)
    return Judged(
        predictions=predictor.predict_corpus(part, features),
        counts=read_json(model_folder / "metrics.json")["real_clips"],
        met=met,
        selected=bool(set(met) & known.selected_on),
        corpus=corpus.digest,
        preprocess=predictor.record.preprocess,
    )


def trained_on(predictions: Predictions, counts: Mapping[str, int]) -> np.ndarray:
    """Whether training had clips of each clip's class ``(N,)``.

    Args:
        predictions: of N clips, by one training.
        counts: its training clips of each class.
    """
    known = np.array([counts.get(name, 0) > 0 for name in predictions.classes])
    found: np.ndarray = known[predictions.labels]
    return found


def record_of(
    judged: list[Judged],
    *,
    task: str,
    split: str,
    tail: Collection[str] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """The figures of one diagnoser, or of the folds' diagnosers together, with all that qualifies them.

    ``unseen`` lists classes of test clips whose diagnoser had no training clip of the class; where there are
    some, ``seen_only`` are the scores on the other clips. A class may be unseen in one fold alone.
    """
    predictions = Predictions.pool([one.predictions for one in judged])
    counts = {
        name: sum(one.counts.get(name, 0) for one in judged) for name in predictions.classes
    }  # of folds together, so that one list of tail classes holds for all
    rare = tail_of(counts) if tail is None else tail
    met = sorted({name for one in judged for name in one.met})
    majority = np.concatenate([np.full(len(one.predictions.labels), one.majority) for one in judged])
    options: dict[str, Any] = {"tail": rare, "draws": draws, "seed": seed, "task": task}
    record = {
        "task": task,
        "split": split,
        "corpus": judged[0].corpus if len(judged) == 1 else [one.corpus for one in judged],
        "contaminated": {"subjects": len(met), "hash": digest(met)} if met else None,
        "selected_on": any(one.selected for one in judged),
        "preprocess": judged[0].preprocess.model_dump(mode="json"),
        "training_clips": counts,
        **figures(predictions, **options),
        "source_prior": source_prior(predictions, majority, tail=rare, task=task),
    }
    seen = np.concatenate([trained_on(one.predictions, one.counts) for one in judged])
    record["unseen"] = [predictions.classes[index] for index in np.unique(predictions.labels[~seen])]
    if not seen.all() and seen.any():
        kept = predictions.take(seen)
        record["seen_only"] = scored(kept, **options)
        votes = kept.vote()
        if votes is not None and len(votes.labels) < len(kept.labels):
            record["seen_only_per_subject"] = scored(votes, **options)
    return record


def task_of(folder: Path) -> str:
    """The task of a diagnoser, without building the network.

    Raises:
        CheckpointError: the folder holds no diagnoser.
    """
    read_provenance(folder)
    values = read_json(folder / "config.json").get("config", {})
    if not isinstance(values.get("task"), str):
        raise CheckpointError("is no diagnoser", path=folder)
    return str(values["task"])
