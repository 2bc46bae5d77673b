"""Clips of the probes: suites, their filterbank frames in memory, and folds that never cross subjects.

Free of torch at import. Frames are computed once; probing many encoders only encodes them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from resp229k.audio import Preprocess, prepare
from resp229k.build import build_corpus
from resp229k.buildconfig import BuildConfig
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.simulate import SimulateConfig, simulate_corpus
from resp229k.splits import split_subjects
from resp229k.tasks import get_task
from training.config import Strict, expand
from training.errors import ConfigError, ContaminationError, DataError
from training.files import digest
from training.progress import track

if TYPE_CHECKING:
    from torch import Tensor

FOLDS = 5  # of suites whose subjects are parted anew by every seed
INNER = 3  # of the training subjects, to choose the regularisation
FEWEST_CLIPS, FEWEST_SUBJECTS = 20, 3  # of a class in every part; rarer ones are left out
LIMIT = 1000  # clips of a part; of valid a third
BATCH = 32
ALL, TRAIN, VALID, TEST = "all", "train", "valid", "test"
PARTS = {"train": TRAIN, "select": VALID, "plan": VALID, "test": TEST}
COMMON = 2000.0  # Hz: what the recorders of SPRSound and ICBHI have in common


class Suite(Strict):
    """What a suite probes.

    ``protocol`` says who takes part, None: simulated clips. ``crossed`` suites part all subjects into
    folds, the others train, choose and test as the protocol says. ``bandwidth`` (Hz) is of every clip.
    """

    task: str
    protocol: str | None = None
    crossed: bool = False
    bandwidth: float | None = None


SUITES: dict[str, Suite] = {
    "simulated": Suite(task="disease16"),
    "sprsound": Suite(task="spr_event", protocol="sprsound-5fold", crossed=True),
    "icbhi": Suite(task="icbhi4", protocol="icbhi-5fold", crossed=True),
    "spr2icbhi": Suite(task="icbhi4", protocol="spr2icbhi", bandwidth=COMMON),
    "icbhi2spr": Suite(task="icbhi4", protocol="icbhi2spr", bandwidth=COMMON),
}
SIMULATED = SimulateConfig(
    seed=977, head=24, tail=24, rare=0, select=12, plan=0, test=24, train_sources=6, valid_sources=3, test_sources=6
)  # fmt: skip
"""Its sources and subjects are in no training corpus; the simulator's grammar is that of the training tags."""


class Fold(NamedTuple):
    """Rows to train on, pairs of rows to choose the regularisation with, and rows to judge."""

    train: np.ndarray
    inner: list[tuple[np.ndarray, np.ndarray]]
    test: np.ndarray


@dataclass(frozen=True)
class ProbeSet:
    """Clips of one suite, all of one length.

    Attributes:
        name: of the suite.
        classes: that are judged.
        frames: ``(N, L, 128)`` fp16, (frames - mean) / deviation as :mod:`beats.fbank` has them.
        labels: ``(N,)`` indices into ``classes``.
        subjects: ``(N,)`` their ids.
        parts: ``(N,)`` ``train``, ``valid`` or ``test``, or ``all`` throughout where subjects are parted anew.
        bandwidth: of the clips, Hz; None: as recorded.
        left_out: class, or group of clips, and why it takes no part.

    Raises:
        DataError: a subject stands in two parts, or fewer than two classes are left.
    """

    name: str
    classes: tuple[str, ...]
    frames: np.ndarray
    labels: np.ndarray
    subjects: np.ndarray
    parts: np.ndarray
    bandwidth: float | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pairs = set(zip(self.subjects.tolist(), self.parts.tolist(), strict=True))
        crossing = [name for name, count in Counter(subject for subject, _ in pairs).items() if count > 1]
        if crossing:
            raise DataError(f"suite {self.name} has subject {min(crossing)} in two parts")
        if len(self.classes) < 2:
            raise DataError(
                f"suite {self.name} has fewer than two classes to tell apart; left out: {self.left_out}",
                cure="give all its recordings, or probe another suite",
            )

    def __len__(self) -> int:
        return len(self.labels)

    def folds(self, seed: int) -> list[Fold]:
        """How a seed parts the clips; no subject is on two sides of anything.

        Crossed suites: :data:`FOLDS` folds of subjects. Otherwise the parts are given: there each seed
        leaves out another fifth of the training subjects, so that seeds vary.
        """
        if (self.parts == ALL).all():
            everything = np.arange(len(self))
            return [
                Fold(train, self._grouped(train, INNER, seed), test)
                for train, test in self._grouped(everything, FOLDS, seed)
            ]
        train, valid, test = (np.flatnonzero(self.parts == part) for part in (TRAIN, VALID, TEST))
        train = self._grouped(train, FOLDS, seed)[0][0]
        return [Fold(train, [(train, valid)], test)]

    def _grouped(self, rows: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pairs of rows, apart by subject and stratified by class; each seed deals the subjects anew."""
        weights: dict[str, Counter[int]] = defaultdict(Counter)
        for row in rows:
            weights[str(self.subjects[row])][int(self.labels[row])] += 1
        if len(weights) < folds:
            raise DataError(f"suite {self.name}: {len(weights)} subjects cannot give {folds} folds")
        by_name = {subject: {str(k): n for k, n in counts.items()} for subject, counts in weights.items()}
        dealt = split_subjects(by_name, {str(fold): 1 / folds for fold in range(folds)}, seed=seed)
        home = np.array([int(dealt[str(subject)]) for subject in self.subjects[rows]])
        return [(rows[home != fold], rows[home == fold]) for fold in range(folds)]

    def refuse(self, heard: Collection[str]) -> None:
        """Refuse weights that were trained or chosen on subjects of this set.

        Raises:
            ContaminationError: with how many there are.
        """
        if met := sorted(set(self.subjects.tolist()) & set(heard)):
            raise ContaminationError(
                f"suite {self.name} holds {len(met)} subjects that the weights have heard, e.g. {met[0]}",
                cure="leave them out when the clips are loaded (load_sets, without=)",
            )


def load_sets(
    names: Sequence[str],
    *,
    work: Path,
    root: str = "${RESP_DATA}",
    without: Collection[str] = (),
    limit: int = LIMIT,
    seed: int = 0,
    bandwidth: float | None = None,
) -> list[ProbeSet]:
    """Build the corpora of some suites, or reopen them, and keep their clips' frames in memory.

    Args:
        names: of :data:`SUITES`.
        work: keeps the corpora, one folder each.
        root: folder of the sources in their publishers' layout; not needed by ``simulated``.
        without: subjects that take no part: those that the weights have heard.
        limit: clips of a part (of valid a third), spread over classes and subjects.
        seed: of which clips those are.
        bandwidth: Hz, of every suite; None takes what each suite says, 0 leaves all as recorded.

    Raises:
        ConfigError: there is no such suite, or ``root`` names a variable that is not set.
        DataError: recordings are missing, or a suite has fewer than two classes left.
        AudioError: a recording cannot be used, named by path.
    """
    check_suites(names, root)
    sets = []
    for name in names:
        suite = SUITES[name]
        corpus = _corpus(suite, root, work)
        hertz = suite.bandwidth if bandwidth is None else bandwidth or None
        sets.append(load_set(name, suite, corpus, without=without, limit=limit, seed=seed, bandwidth=hertz))
    return sets


def check_suites(names: Sequence[str], root: str) -> None:
    """Refuse unknown suites, and real ones without a data folder, before anything is read.

    Raises:
        ConfigError: see above.
    """
    for name in names:
        if name not in SUITES:
            raise ConfigError(f"unknown suite {name!r}", cure=f"use all or some of: {', '.join(SUITES)}")
    if any(SUITES[name].protocol is not None for name in names):
        expand(root)


def _corpus(suite: Suite, root: str, work: Path) -> Corpus:
    if suite.protocol is None:
        return simulate_corpus(SIMULATED, work / "simulated")
    return build_corpus(BuildConfig(protocol=suite.protocol, root=root, clip="event"), work / suite.protocol)


def load_set(
    name: str,
    suite: Suite,
    corpus: Corpus,
    *,
    without: Collection[str] = (),
    limit: int = LIMIT,
    seed: int = 0,
    bandwidth: float | None = None,
) -> ProbeSet:
    """Choose a suite's clips of a corpus and compute their frames; arguments and errors as :func:`load_sets`."""
    labelled = corpus.subset(task=suite.task).clips
    clips = [clip for clip in labelled if clip.subject_id not in without]
    parts = {clip.clip_id: ALL if suite.crossed else PARTS[clip.split] for clip in clips}
    chosen: list[Clip] = []
    for part in sorted(set(parts.values())):
        of_part = [clip for clip in clips if parts[clip.clip_id] == part]
        chosen += spread_out(of_part, suite.task, limit // 3 if part == VALID else limit, seed)
    left_out = _rare(chosen, suite.task, parts)
    if len(clips) < len(labelled):
        left_out["clips of subjects that the weights have heard"] = str(len(labelled) - len(clips))
    kept = [clip for clip in chosen if clip.labels[suite.task] not in left_out]
    present = {clip.labels[suite.task] for clip in kept}
    classes = tuple(label for label in get_task(suite.task).classes if label in present)
    return ProbeSet(
        name=name,
        classes=classes,
        frames=_frames(corpus, kept, Preprocess(seconds=4.0, fit="loop", bandwidth=bandwidth), name),
        labels=np.array([classes.index(clip.labels[suite.task]) for clip in kept], dtype=np.int64),
        subjects=np.array([clip.subject_id for clip in kept]),
        parts=np.array([parts[clip.clip_id] for clip in kept]),
        bandwidth=bandwidth,
        left_out=left_out,
    )


def spread_out(clips: Sequence[Clip], task: str, limit: int, seed: int) -> list[Clip]:
    """At most ``limit`` clips, evenly over classes and within a class over subjects.

    A class smaller than its share leaves the rest of it to the larger ones. Subjects of a class take turns,
    so that a long recording does not push others out.
    """
    of_class: dict[str, list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: digest([seed, clip.clip_id])):
        of_class[clip.labels[task]].append(clip)
    chosen: list[Clip] = []
    smallest_first = sorted(of_class, key=lambda label: (len(of_class[label]), label))
    for index, label in enumerate(smallest_first):
        share = (limit - len(chosen)) // (len(smallest_first) - index)
        turns: Counter[str] = Counter()
        ranked = []
        for clip in of_class[label]:
            ranked.append((turns[clip.subject_id], clip))
            turns[clip.subject_id] += 1
        # The sort is stable: within a turn the hashed order stays.
        chosen += [clip for _, clip in sorted(ranked, key=lambda pair: pair[0])[:share]]
    return chosen


def _rare(clips: Sequence[Clip], task: str, parts: dict[str, str]) -> dict[str, str]:
    """Classes with too few clips or subjects in train or test, and the counts."""
    left_out = {}
    judged = sorted({parts[clip.clip_id] for clip in clips} - {VALID})
    for label in sorted({clip.labels[task] for clip in clips}):
        for part in judged:
            here = [c.subject_id for c in clips if c.labels[task] == label and parts[c.clip_id] == part]
            if len(here) < FEWEST_CLIPS or len(set(here)) < FEWEST_SUBJECTS:
                where = "" if part == ALL else f" in {part}"
                left_out[label] = f"{len(here)} clips of {len(set(here))} subjects{where}"
                break
    return left_out


def _frames(corpus: Corpus, clips: Sequence[Clip], how: Preprocess, name: str) -> np.ndarray:
    """Normalised frames ``(N, L, 128)`` fp16."""
    from beats.config import BINS
    from beats.encode import pad_waves
    from beats.fbank import DEVIATION, MEAN, fbank

    found: list[Tensor] = []
    for first in track(range(0, len(clips), BATCH), f"filterbank of {name}"):
        waves = [prepare(corpus.audio(clip), how) for clip in clips[first : first + BATCH]]
        frames, _ = fbank(*pad_waves(waves))
        found.append(((frames - MEAN) / DEVIATION).half())
    return np.concatenate(found) if found else np.zeros((0, 0, BINS), np.float16)
