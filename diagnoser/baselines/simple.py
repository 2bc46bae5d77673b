"""Baselines without a network: counts, boosted trees, word weights, and a linear model of pooled features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from diagnoser.baselines.choose import Answer, Fitted, calibrated, choose, fitted, spread
from diagnoser.baselines.data import SPLITS, PartData
from diagnoser.baselines.sounds import describe
from resp229k.leakage_probes import told_fields

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse regularisation, strongest first
WEIGHTS = (None, "balanced")  # of classes
LEAVES = (1, 4, 16)  # least clips of a tree's leaf
TREES = 300


def majority(data: PartData, seed: int) -> Fitted:
    """Every clip gets the shares of the classes in training."""
    share = _shares(data, np.arange(len(data.labels["train"])))
    select, test = (np.tile(share, (len(data.clips[split]), 1)) for split in ("select", "test"))
    return fitted(data, np.log(select), np.log(test), {})


def source_prior(data: PartData, seed: int) -> Fitted:
    """The shares of the classes among training clips of the same source and device, or source, or of all."""
    known: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, clip in enumerate(data.clips["train"]):
        for key in ((), (clip.source,), (clip.source, clip.device)):
            known[key].append(index)
    shares = {key: _shares(data, np.array(rows)) for key, rows in known.items()}

    def answer(split: str) -> np.ndarray:
        keys = [((clip.source, clip.device), (clip.source,), ()) for clip in data.clips[split]]
        return np.log([next(shares[key] for key in one if key in shares) for one in keys])

    return fitted(data, answer("select"), answer("test"), {"groups": len(shares)})


def _shares(data: PartData, rows: np.ndarray) -> np.ndarray:
    counts = np.bincount(data.labels["train"][rows], minlength=len(data.classes))
    share = np.maximum(counts / counts.sum(), 1e-6)
    found: np.ndarray = share / share.sum()
    return found


def metadata_only(data: PartData, seed: int) -> Fitted:
    """Gradient boosting on the facts that the narrative tells.

    Neither device nor source are among them, nor what defines or follows the label.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    facts = {split: [told_fields(c, data.part.task) for c in data.clips[split]] for split in SPLITS}
    values, named = typed(facts["train"], facts)

    def train(how: tuple[int, str | None]) -> Answer:
        model = HistGradientBoostingClassifier(
            max_iter=60,
            min_samples_leaf=how[0],
            class_weight=how[1],
            categorical_features=named,
            early_stopping=False,
            random_state=seed,
        )
        return _fit(data, model, values)

    chosen, answer = choose(data, list(product((5, 50), WEIGHTS)), train)
    notes = {"fields": sorted({name for one in facts["train"] for name in one}), "chosen": list(chosen)}
    return calibrated(data, answer, notes)


def typed(
    train: Sequence[Mapping[str, object]], facts: Mapping[str, Sequence[Mapping[str, object]]]
) -> tuple[dict[str, np.ndarray], list[bool]]:
    """Fields as numbers: a number stays, a text is its place among the training clips' texts, the rest NaN.

    Returns:
        per split ``(N, fields)``, and which fields are texts.
    """
    names = sorted({name for one in train for name in one})
    numeric = {name: isinstance(next(o[name] for o in train if name in o), float) for name in names}
    codes = {
        name: {text: code for code, text in enumerate(sorted({str(o[name]) for o in train if name in o}))}
        for name in names
    }

    def value(one: Mapping[str, object], name: str) -> float:
        if name not in one:
            return np.nan
        return float(str(one[name])) if numeric[name] else codes[name].get(str(one[name]), np.nan)

    # A column of nothing where nothing is told, so that the model falls back on the shares of the classes.
    columns = {
        split: np.array([[value(one, name) for name in names] or [0.0] for one in many], dtype=np.float64)
        for split, many in facts.items()
    }
    return columns, [not numeric[name] for name in names] or [False]


def text_words(data: PartData, seed: int) -> Fitted:
    """Words and pairs of words of the narrative, weighted by TF-IDF, in a logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\.\d+|\w+", sublinear_tf=True)  # noqa: S106
    words.fit(data.narratives("train", seed))
    return _linear(data, {split: words.transform(data.narratives(split, seed)) for split in SPLITS}, seed)


def pooled_linear(data: PartData, seed: int) -> Fitted:
    """Means and deviations of the BEATs features in a logistic regression."""
    values = {split: pooled(data, split) for split in SPLITS}
    mean, scale = values["train"].mean(0), values["train"].std(0)
    # A column that does not vary in training tells nothing, whatever it does later.
    scale = np.where(scale > 1e-6, scale, np.inf)
    return _linear(data, {split: (rows - mean) / scale for split, rows in values.items()}, seed)


def pooled(data: PartData, split: str) -> np.ndarray:
    """Mean and deviation over time of each of the diagnoser's frequency rows ``(N, 2 x rows x D)``."""
    rows = data.config.model.rows
    found = []
    for clip in data.clips[split]:
        grid = np.asarray(data.store.features(clip.clip_id), dtype=np.float32)  # (T, F, D)
        joined = grid.reshape(len(grid), rows, -1, grid.shape[-1]).mean(2)
        found.append(np.concatenate([joined.mean(0).ravel(), joined.std(0).ravel()]))
    return np.stack(found)


def trees(data: PartData, seed: int) -> Fitted:
    """Hand-made features of the sound in extremely randomised trees."""
    from sklearn.ensemble import ExtraTreesClassifier

    sounds = data.kept("sounds", lambda waves: describe(waves, data.looped.bandwidth))
    values = {split: np.asarray(sounds[data.rows(split)]) for split in SPLITS}

    def train(how: tuple[int, str | None]) -> Answer:
        model = ExtraTreesClassifier(
            n_estimators=TREES, min_samples_leaf=how[0], class_weight=how[1], random_state=seed
        )
        return _fit(data, model, values)

    chosen, answer = choose(data, list(product(LEAVES, WEIGHTS)), train)
    return calibrated(data, answer, {"chosen": list(chosen), "features": values["train"].shape[1]})


def _linear(data: PartData, values: Mapping[str, Any], seed: int) -> Fitted:
    from sklearn.linear_model import LogisticRegression

    def train(how: tuple[float, str | None]) -> Answer:
        model = LogisticRegression(C=how[0], class_weight=how[1], max_iter=2000, tol=1e-3, random_state=seed)
        return _fit(data, model, values)

    chosen, answer = choose(data, list(product(STRENGTHS, WEIGHTS)), train)
    return calibrated(data, answer, {"chosen": list(chosen), "features": values["train"].shape[1]})


def _fit(data: PartData, model: Any, values: Mapping[str, Any]) -> Answer:
    model.fit(values["train"], data.labels["train"])

    def answer(split: str) -> np.ndarray:
        return spread(model.predict_proba(values[split]), model.classes_, len(data.classes))

    return answer
