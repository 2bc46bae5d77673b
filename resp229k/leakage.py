"""Leakage audit: how much of a label can be had without listening.

Simple classifiers read the narratives, the metadata, or where a clip comes from, and are scored on
subjects they have not seen, against chance. Scores well above chance mean that a network which reads
the same can pass for one that hears.

Cross-validation is grouped by subject and stratified by class. Macro-F1 and balanced accuracy are of
all clips, each judged once; AUROC is one against the rest within a fold, as scores of two models are
not comparable, averaged over classes and folds. Given are mean and standard deviation over seeds, and
each seed has its own folds and wording.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.leakage_probes import (
    DrawProbe,
    FieldProbe,
    KeyProbe,
    Probe,
    TextProbe,
    all_fields,
    mask,
    told_fields,
)
from resp229k.narrative import leaky_narrative, narrate
from resp229k.sources.recording import Recording
from resp229k.sources.registry import adapter
from resp229k.tasks import TASKS, get_task
from training.config import Strict
from training.errors import DataError
from training.progress import track
from training.statistics import deviation

FOLDS = 5  # so a class needs as many subjects
MAJORITY, DRAWN = "chance: majority class", "chance: drawn by share"
CHANCE = (MAJORITY, DRAWN)
WITHHELD = "all fields, withheld too"
MASKED = ", masked"

Case = Clip | Recording


class Score(Strict):
    """Mean and standard deviation (n - 1) over seeds; 0 for one seed."""

    mean: float
    std: float


class ProbeResult(Strict):
    """What one probe reached, and for texts the words that speak for each class most."""

    probe: str
    macro_f1: Score
    balanced_accuracy: Score
    auroc: Score
    words: dict[str, list[str]] = {}


class TaskAudit(Strict):
    """The probes of one task.

    Attributes:
        clips: how many were judged.
        subjects: how many they are of.
        classes: class → clips, of the classes that were judged.
        left_out: class, or group of clips, → why it was not.
        probes: none when fewer than two classes were left.
    """

    task: str
    clips: int
    subjects: int
    classes: dict[str, int]
    left_out: dict[str, str]
    probes: list[ProbeResult] = []


class Audit(Strict):
    """An audit as it is written to JSON; ``name`` is the audited folder's."""

    name: str
    digest: str | None
    seeds: int
    folds: int
    tasks: list[TaskAudit]


def audit_corpus(corpus: Corpus, tasks: Sequence[str] = (), *, seeds: int = 3) -> Audit:
    """Audit the narratives, metadata and origins of a corpus; synthetic clips take no part.

    Args:
        corpus: of any splits; subjects are parted anew.
        tasks: names of tasks; none takes every task that some clip has a label of.
        seeds: how many times, each with folds and wording of its own.

    Raises:
        DataError: there is no such task, or no clip has a label of it.
    """
    clips = [clip for clip in corpus.clips if not clip.synthetic]
    audited = [
        _audit(name, clips, partial(_clip_probes, task=name), seeds)
        for name in _tasks(clips, tasks, corpus.folder)
    ]
    return Audit(name=corpus.folder.name, digest=corpus.digest, seeds=seeds, folds=FOLDS, tasks=audited)


def audit_release(folder: Path, tasks: Sequence[str] = (), *, seeds: int = 3) -> Audit:
    """Audit the narratives of the released corpus.

    Args:
        folder: holds ``audio_descriptions.jsonl``.
        tasks: as in :func:`audit_corpus`.
        seeds: as in :func:`audit_corpus`.

    Raises:
        DataError: no such folder, what the adapter finds broken, or as in :func:`audit_corpus`.
    """
    if not folder.is_dir():
        raise DataError("no such folder", path=folder, cure="give the folder of audio_descriptions.jsonl")
    found = [r for r in adapter("resp229k_release").discover(folder) if r.fault is None]
    texts = [recording for recording in found if recording.metadata.narrative]
    audited = [
        _audit(name, texts, partial(_release_probes, task=name), seeds)
        for name in _tasks(texts, tasks, folder)
    ]
    for task in audited:
        if len(texts) < len(found):
            task.left_out["recordings without a narrative"] = str(len(found) - len(texts))
    return Audit(name=folder.name, digest=None, seeds=seeds, folds=FOLDS, tasks=audited)


def _tasks(cases: Sequence[Case], tasks: Sequence[str], where: Path) -> list[str]:
    labelled = [name for name in TASKS if any(name in case.labels for case in cases)]
    missing = [name for name in dict.fromkeys(tasks) if get_task(name).name not in labelled]
    if missing or not labelled:
        what = f"task {missing[0]}" if missing else "any task"
        raise DataError(
            f"nothing here has a label of {what}", path=where, cure="choose another task or corpus"
        )
    return list(dict.fromkeys(tasks)) or labelled


def _clip_probes(clips: Sequence[Clip], task: str) -> dict[str, Probe]:
    ways: dict[str, Callable[[Clip, int], str]] = {
        "text": lambda clip, seed: narrate(clip, task, seed=seed),
        "text with equipment": lambda clip, seed: narrate(clip, task, seed=seed, equipment=True),
        "leaky text": lambda clip, seed: leaky_narrative(clip, seed=seed),
    }
    return {
        **_chance(clips),
        **_texts({name: partial(_tell, way, clips) for name, way in ways.items()}, task),
        "told fields": FieldProbe([told_fields(clip, task) for clip in clips]),
        WITHHELD: FieldProbe([all_fields(clip) for clip in clips]),
        "source": KeyProbe([clip.source for clip in clips]),
        "device": KeyProbe([clip.device for clip in clips]),
        "sample rate": KeyProbe([clip.sample_rate for clip in clips]),
    }


def _release_probes(recordings: Sequence[Recording], task: str) -> dict[str, Probe]:
    texts = [recording.metadata.narrative or "" for recording in recordings]
    # The release joins collections; each of its recordings is named <collection>.<name>.
    collections = [recording.name.split(".")[0] for recording in recordings]
    return {
        **_chance(recordings),
        **_texts({"released text": lambda _: texts}, task),
        "source": KeyProbe(collections),
    }


def _chance(cases: Sequence[Case]) -> dict[str, Probe]:
    return {MAJORITY: KeyProbe([None] * len(cases)), DRAWN: DrawProbe()}


def _texts(texts: Mapping[str, Callable[[int], list[str]]], task: str) -> dict[str, Probe]:
    """Each text plain and with the class names cut out."""
    probes: dict[str, Probe] = {}
    for name, of_seed in texts.items():
        probes[name] = TextProbe(of_seed)
        probes[name + MASKED] = TextProbe(partial(_tell_masked, of_seed, task))
    return probes


def _tell(way: Callable[[Clip, int], str], clips: Sequence[Clip], seed: int) -> list[str]:
    return [way(clip, seed) for clip in clips]


def _tell_masked(of_seed: Callable[[int], list[str]], task: str, seed: int) -> list[str]:
    return [mask(text, task) for text in of_seed(seed)]


def _audit(
    task: str, cases: Sequence[Case], probes_of: Callable[[list[Case]], dict[str, Probe]], seeds: int
) -> TaskAudit:
    kept, left_out = _usable(task, cases)
    names = [name for name in get_task(task).classes if any(case.labels[task] == name for case in kept)]
    labels = np.array([names.index(case.labels[task]) for case in kept])
    audited = TaskAudit(
        task=task,
        clips=len(kept),
        subjects=len({case.subject_id for case in kept}),
        classes={name: int((labels == index).sum()) for index, name in enumerate(names)},
        left_out=left_out,
    )
    if len(names) < 2:
        return audited
    subjects = [case.subject_id for case in kept]
    folds = [_folds(labels, subjects, seed) for seed in range(seeds)]
    for name, probe in track(probes_of(kept).items(), f"probes of {task}"):
        audited.probes.append(_result(name, probe, labels, names, subjects, folds))
    return audited


def _usable(task: str, cases: Sequence[Case]) -> tuple[list[Case], dict[str, str]]:
    """The cases of classes that can be cross-validated, and what is left out with its reason."""
    left_out = {}
    subjects: dict[str, set[str]] = {}
    for case in cases:
        if task in case.labels:
            subjects.setdefault(case.labels[task], set()).add(case.subject_id)
    for name in get_task(task).classes:
        if name in subjects and len(subjects[name]) < FOLDS:
            left_out[name] = f"{len(subjects[name])} subjects, fewer than the {FOLDS} folds"
    if several := sum(task in case.multi_labels for case in cases):
        left_out["clips of several classes"] = str(several)
    return [c for c in cases if task in c.labels and c.labels[task] not in left_out], left_out


def _folds(labels: np.ndarray, subjects: list[str], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices to train on and to judge, no subject in both."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, subjects))


def _result(
    name: str,
    probe: Probe,
    labels: np.ndarray,
    names: list[str],
    subjects: list[str],
    folds: list[list[tuple[np.ndarray, np.ndarray]]],
) -> ProbeResult:
    from sklearn.metrics import balanced_accuracy_score, f1_score

    f1, accuracy, areas = [], [], []
    for seed, parts in enumerate(folds):
        chosen = np.empty_like(labels)
        within = []
        for train, test in parts:
            given = probe.judge(train, test, labels, seed)
            chosen[test] = given.argmax(axis=1)
            within.append(_area(labels[test], given))
        f1.append(f1_score(labels, chosen, average="macro"))
        accuracy.append(balanced_accuracy_score(labels, chosen))
        areas.append(np.nanmean(within))
    return ProbeResult(
        probe=name,
        macro_f1=_score(f1),
        balanced_accuracy=_score(accuracy),
        auroc=_score(areas),
        words=probe.words(labels, names, subjects, 0) if isinstance(probe, TextProbe) else {},
    )


def _area(labels: np.ndarray, given: np.ndarray) -> float:
    """AUROC of each class against the rest, averaged over the classes that have both here."""
    sides = [(labels == index, given[:, index]) for index in range(given.shape[1])]
    areas = [auroc(truth, score) for truth, score in sides if 0 < truth.sum() < truth.size]
    return float(np.mean(areas)) if areas else float("nan")


def auroc(truth: np.ndarray, score: np.ndarray) -> float:
    """Chance that a true case scores above a false one, ties counted half; from the ranks.

    Args:
        truth: booleans ``(N,)``, some of each.
        score: ``(N,)``.
    """
    from scipy.stats import rankdata

    true = int(truth.sum())
    above = rankdata(score)[truth].sum() - true * (true + 1) / 2
    return float(above / (true * (truth.size - true)))


def _score(values: Sequence[float] | Sequence[np.floating]) -> Score:
    return Score(mean=float(np.mean(values)), std=deviation(values) if len(values) > 1 else 0.0)
