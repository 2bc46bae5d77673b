"""The figures of one row: generated (or real) clips held against real clips of other subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from agent.gate import Recall, recall
from agent.generated.hear import Described, Heard
from diagnoser.baselines.simple import TREES
from generator.codec_config import MelConfig
from generator.events import event_faithfulness
from generator.fad import fad, frechet
from generator.likeness import copy_threshold, diversity
from generator.metrics import compare_frames
from generator.timbre import style_pairs, style_similarity
from resp229k.clip import Clip
from training.statistics import deviation

MEASURES = ("crackle_rate", "wheeze_seconds", "wheeze_hertz")
Near = tuple[np.ndarray, np.ndarray]  # rows of the training side (N,), and similarity to them (N,)
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the clips, for the curve of the distance over n


@dataclass(frozen=True)
class Ground:
    """What the rows of one seed are held against.

    Attributes:
        classes: of the comparison.
        tail: averaged apart.
        judged: the judge's classes, in the order of its probabilities.
        a: real clips of the half that lends styles.
        b: real clips of the other half.
        subjects: of ``b``.
        pool: all real test clips that were heard.
        same, other: pairs ``(P, 2)`` of clips of ``pool`` that share their device, and that do not.
        train_ids: clips of the training side.
        usual: similarity of ``pool`` to the training side, to which none of its subjects belong; None
            where there is no training side.
        seed: of the random parts.
    """

    classes: tuple[str, ...]
    tail: tuple[str, ...]
    judged: tuple[str, ...]
    a: Described
    b: Described
    subjects: list[str]
    pool: Described
    same: np.ndarray
    other: np.ndarray
    train_ids: list[str]
    usual: np.ndarray | None
    seed: int

    @cached_property
    def between(self) -> float:
        """Fréchet distance of the two real halves."""
        return frechet(np.concatenate(self.a.columns), np.concatenate(self.b.columns))

    @cached_property
    def real_f1(self) -> dict[str, float]:
        """F1 per class of trees trained on the one half and tested on the other."""
        return _trees(self.a, self)


@dataclass
class Measured:
    """Figures over all classes, figures per class, and per clip the nearest training clip."""

    figures: dict[str, float]
    classes: dict[str, dict[str, float]]
    nearest: list[tuple[str, float]]


def measure(made: Described, ground: Ground, near: Near | None = None) -> Measured:
    """All figures of a row but those of its style, which real clips have no reference for.

    Args:
        made: the row's clips.
        ground: what they are held against.
        near: the row's nearest training clips; None leaves the search for copies out.
    """
    found = Measured({}, {name: {} for name in ground.classes}, [])
    _recall(found, made, ground)
    _train_on(found, made, ground)
    one = diversity(made.embeddings, made.labels, ground.b.embeddings, ground.b.labels, seed=ground.seed)
    found.figures["diversity"] = one.ratio
    for name, own in one.classes.items():
        found.classes[name]["diversity"] = own.ratio
    if near is not None and ground.usual is not None:
        limit = copy_threshold(ground.usual)
        found.figures["memorised"] = float(np.mean(near[1] > limit))
        found.nearest = [(ground.train_ids[row], float(value)) for row, value in zip(*near, strict=True)]
    distance = fad(made.columns, ground.b.columns, seed=ground.seed)
    found.figures |= {
        "fad": distance.fad,
        "fad_infinite": distance.infinite,
        "fad_ratio": distance.fad / ground.between,
        "fad_clips": distance.clips_made,
        "fad_r2": distance.r2,
    }
    _events(found, made, ground)
    found.figures |= compare_frames(made.frames, ground.b.frames, MelConfig().frame_rate)
    return found


def named(heard: Heard, ground: Ground) -> Recall:
    """Recall of the judge's first choice among all classes it knows."""
    return recall(heard.labels, heard.probabilities, ground.judged, ground.tail)


def _recall(found: Measured, made: Heard, ground: Ground) -> None:
    mine, real = named(made, ground), named(ground.b, ground)
    found.figures |= {"recall": mine.macro, "recall_ratio": _ratio(mine.macro, real.macro)}
    if mine.tail is not None and real.tail is not None:
        found.figures |= {"recall_tail": mine.tail, "recall_ratio_tail": _ratio(mine.tail, real.tail)}
    for name in ground.classes:
        value = mine.per_class[name]
        found.classes[name] |= {
            "clips": mine.clips[name],
            "recall": value,
            "recall_real": real.per_class[name],
            "recall_ratio": _ratio(value, real.per_class[name]),
        }


def _train_on(found: Measured, made: Described, ground: Ground) -> None:
    """Trees on hand-made features, trained on the row, tested on real clips; beside them trees of half A."""
    mine, real = _trees(made, ground), ground.real_f1
    found.figures["tstr"] = float(np.mean(list(mine.values())))
    found.figures["tstr_ratio"] = _ratio(found.figures["tstr"], float(np.mean(list(real.values()))))
    if ground.tail:
        tail = [float(np.mean([f1[name] for name in ground.tail])) for f1 in (mine, real)]
        found.figures |= {"tstr_tail": tail[0], "tstr_ratio_tail": _ratio(*tail)}
    for name in ground.classes:
        found.classes[name]["f1_trained_on"] = mine[name]


def _trees(train: Described, ground: Ground) -> dict[str, float]:
    """F1 per class on half B."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.metrics import f1_score

    model = ExtraTreesClassifier(n_estimators=TREES, class_weight="balanced", random_state=ground.seed)
    model.fit(train.sounds, train.labels)
    guessed = model.predict(ground.b.sounds)
    names = list(ground.classes)
    scores = f1_score(ground.b.labels, guessed, labels=names, average=None, zero_division=0)
    return {name: float(score) for name, score in zip(names, scores, strict=True)}


def _events(found: Measured, made: Described, ground: Ground) -> None:
    """Distance of the distributions of crackles and wheezes to the real ones, mean over the classes."""

    def by_class(heard: Described) -> dict[str, list]:
        return {
            name: [e for e, label in zip(heard.events, heard.labels, strict=True) if label == name]
            for name in ground.classes
        }

    subjects = {
        name: [s for s, label in zip(ground.subjects, ground.b.labels, strict=True) if label == name]
        for name in ground.classes
    }
    held = event_faithfulness(by_class(made), by_class(ground.b), subjects, seed=ground.seed)
    for measure_name in MEASURES:
        values = []
        for name in ground.classes:
            one = held[name][measure_name]
            found.classes[name] |= {measure_name: one.made, f"{measure_name}_real": one.real}
            # Where real clips have a pitch and these have none, the distributions share nothing.
            gone = np.isfinite(one.real) and not np.isfinite(one.made)
            if np.isfinite(ks := 1.0 if gone else one.ks):
                values.append(ks)
                found.classes[name] |= {f"{measure_name}_ks": ks, f"{measure_name}_ks_real": one.real_ks}
        if values:
            found.figures[f"{measure_name}_ks"] = float(np.mean(values))


def style(made: Heard, references: Sequence[int], ground: Ground) -> dict[str, float]:
    """How near clips come to their references, places of ``ground.pool``, by BEATs features and by timbre.

    Raises:
        DataError: there are no pairs of real clips to calibrate with.
    """
    found: dict[str, float] = {}
    for name, mine, real, standardise in (
        ("style", made.embeddings, ground.pool.embeddings, False),
        ("timbre", made.styles, ground.pool.styles, True),
    ):
        same, other = ((real[pairs[:, 0]], real[pairs[:, 1]]) for pairs in (ground.same, ground.other))
        one = style_similarity(mine, real[list(references)], same, other, standardise=standardise)
        found |= {
            f"{name}_cosine": one.cosine,
            f"{name}_position": one.position,
            f"{name}_auroc": one.auroc,
            f"{name}_same": one.same,
            f"{name}_other": one.other,
        }
    return found


def swap(made: Heard, references: Sequence[int], groups: Sequence[int], ground: Ground) -> dict[str, float]:
    """Figures of the paper's Exp. 6 on clips that share all but their style, or all but their label.

    ``own_style`` is the share of clips whose timbre is nearer to their own reference than to the others
    of their group; it is left out where a group has one reference.
    """
    chosen = made.probabilities.argmax(axis=1)
    right = [ground.judged[i] == label for i, label in zip(chosen, made.labels, strict=True)]
    distance = fad(made.columns, ground.b.columns, seed=ground.seed)
    found = {
        "clips": float(len(right)),
        "p_acc": float(np.mean(right)),
        "fad": distance.fad,
        "fad_ratio": distance.fad / ground.between,
        **style(made, references, ground),
    }
    own = own_style(made.styles, ground.pool.styles, references, groups)
    return found if own is None else found | {"own_style": own}


def own_style(
    made: np.ndarray, pool: np.ndarray, references: Sequence[int], groups: Sequence[int]
) -> float | None:
    """Share of clips ``(N, K)`` nearest to their own reference among those of their group; None: no choice."""
    scale = np.maximum(pool.std(axis=0), 1e-9)
    hits = []
    for i, (reference, group) in enumerate(zip(references, groups, strict=True)):
        rivals = sorted({r for r, g in zip(references, groups, strict=True) if g == group})
        if len(rivals) > 1:
            distances = np.linalg.norm((pool[rivals] - made[i]) / scale, axis=1)
            hits.append(rivals[int(distances.argmin())] == reference)
    return float(np.mean(hits)) if hits else None


def real_pairs(clips: Sequence[Clip], seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Places of pairs of clips with the same style and with another, and what stands for a style.

    Other subjects of the same device where there are several devices; else clips of one subject.
    """
    devices = [f"{clip.source}/{clip.device}" for clip in clips]
    subjects = [clip.subject_id for clip in clips]
    if len(set(devices)) > 1:
        return (*style_pairs(devices, subjects, seed=seed), "device")
    # Clips stand for subjects of their own, so that pairs within a subject are allowed.
    return (*style_pairs(subjects, [clip.clip_id for clip in clips], seed=seed), "subject")


def curve(made: Heard, ground: Ground) -> list[tuple[int, float]]:
    """The distance over the number of generated clips."""
    order = np.random.default_rng(ground.seed).permutation(len(made.columns))
    real = np.concatenate(ground.b.columns)
    found = []
    for share in SHARES:
        chosen = order[: max(2, round(share * len(order)))]
        found.append((len(chosen), frechet(np.concatenate([made.columns[i] for i in chosen]), real)))
    return found


def _ratio(value: float, of: float) -> float:
    """Nan where there is nothing to compare with."""
    return value / of if of > 0 else float("nan")


def summary(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over seeds of each figure; None where a seed has no number."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(key for one in values for key in one):
        mine = [one.get(name, float("nan")) for one in values]
        good = bool(np.isfinite(mine).all())
        found[name] = {
            "mean": float(np.mean(mine)) if good else None,
            "std": deviation(mine) if good and len(mine) > 1 else None,
            "values": [float(value) if np.isfinite(value) else None for value in mine],
        }
    return found
