"""Score a diagnoser on a split: intervals over subjects, a source-prior row, no known subjects."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from diagnoser.metrics import (
    accuracy,
    auroc,
    confusion,
    ece,
    f1s,
    interval,
    macro_f1,
    nanmean,
    number,
    recalls,
    sp_se_score,
    subject_matrices,
    tail_macro_f1,
)
from diagnoser.predictions import Predictions
from resp229k.corpus import Corpus
from resp229k.tasks import get_task
from training.errors import ContaminationError, DataError
from training.files import digest, read_json
from training.model import read_provenance

Score = Callable[[np.ndarray], np.ndarray]


def evaluate(
    model_folder: Path,
    corpus: Corpus | Path,
    split: str = "test",
    task: str | None = None,
    *,
    tail: Collection[str] = (),
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
        tail: names of the rare classes.
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
    known = read_provenance(model_folder)
    from diagnoser.predict import Predictor

    predictor = Predictor.load(model_folder)
    if task is not None and task != predictor.task:
        raise DataError(f"the diagnoser is for {predictor.task}, not for {task}", path=model_folder)
    part = corpus.subset(split=split, task=predictor.task)
    if not len(part):
        raise DataError(f"no {split} clips with a label of {predictor.task}", path=corpus.folder)
    selected = set(part.subjects) & set(known.notes.get("selected_on", []))
    shared = sorted(set(part.subjects) & set(known.subjects) | selected)
    if shared and not allow_contaminated:
        raise ContaminationError(
            f"{len(shared)} of {len(part.subjects)} subjects of {split} were trained or selected on, "
            f"e.g. {shared[0]}",
            path=corpus.folder,
            cure="score another split, or pass --allow-contaminated, which stamps the output",
        )
    features = store if store is not None else predictor.build_store(part, cache)
    predictions = predictor.predict_corpus(part, features)
    if save is not None:
        predictions.save(save)
    majority = _majority(model_folder, predictor.classes)
    return {
        "task": predictor.task,
        "split": split,
        "corpus": corpus.digest,
        "contaminated": {"subjects": len(shared), "hash": digest(shared)} if shared else None,
        "selected_on": bool(selected),
        **figures(predictions, tail=tail, draws=draws, seed=seed, task=predictor.task),
        "source_prior": source_prior(predictions, majority, tail=tail, task=predictor.task),
    }


def _majority(folder: Path, classes: tuple[str, ...]) -> int:
    """The class that most real training clips have, whatever was repeated or synthesized."""
    counts = read_json(folder / "metrics.json")["real_clips"]
    return max(range(len(classes)), key=lambda index: counts.get(classes[index], 0))


def figures(
    predictions: Predictions, *, tail: Collection[str] = (), draws: int = 1000, seed: int = 0, task: str
) -> dict[str, Any]:
    """Scores with 95 % bootstrap intervals over subjects, per-class figures and the confusion matrix.

    ``macro_f1`` is the mean over the classes present in the truth; undefined scores are None.
    ``recall`` and ``f1`` hold the classes present in the truth.
    """
    names = predictions.classes
    matrices = subject_matrices(predictions.labels, predictions.guesses, predictions.subject_ids, len(names))
    total = matrices.sum(axis=0)
    scores = _scores(names, tail, task)
    known = total.sum(axis=1) > 0
    return {
        "clips": len(predictions.labels),
        "subjects": len(matrices),
        **{name: number(score(total)) for name, score in scores.items()},
        "auroc": number(auroc(predictions.labels, predictions.probs)),
        "ece": number(ece(predictions.labels, predictions.probs)),
        "intervals": {
            name: [number(bound) for bound in interval(matrices, score, draws=draws, seed=seed)]
            for name, score in scores.items()
        },
        "recall": {names[i]: number(value) for i, value in enumerate(recalls(total)) if known[i]},
        "f1": {names[i]: number(value) for i, value in enumerate(f1s(total)) if known[i]},
        "support": {names[i]: int(total[i].sum()) for i in range(len(names)) if known[i]},
        "confusion": {"classes": list(names), "counts": total.tolist()},
    }


def source_prior(
    predictions: Predictions, majority: int, *, tail: Collection[str] = (), task: str
) -> dict[str, Any]:
    """What always guessing the training majority would score."""
    names = predictions.classes
    guesses = np.full(len(predictions.labels), majority)
    matrix = confusion(predictions.labels, guesses, len(names))
    return {
        "class": names[majority],
        **{name: number(score(matrix)) for name, score in _scores(names, tail, task).items()},
    }


def _scores(names: tuple[str, ...], tail: Collection[str], task: str) -> dict[str, Score]:
    """Scores of confusion matrices ``(…, C, C)``."""
    rare = [index for index, name in enumerate(names) if name in tail]
    scores: dict[str, Score] = {
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "macro_recall": lambda m: nanmean(recalls(m)),
        "tail_macro_f1": lambda m: tail_macro_f1(m, rare),
    }
    normal = get_task(task).normal
    if normal is not None:
        index = names.index(normal)
        scores["sp"] = lambda m: sp_se_score(m, index)[0]
        scores["se"] = lambda m: sp_se_score(m, index)[1]
        scores["score"] = lambda m: sp_se_score(m, index)[2]
    return scores
