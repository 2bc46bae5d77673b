"""Subject-disjoint splits, and the committed list of subjects that shipped weights were trained on.

A subject goes to exactly one part. Parts are stratified so that rare classes reach every part
(iterative stratification, Sechidis et al. 2011, here balancing subjects and clips together): random
splits of a few dozen children leave whole classes out of validation.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import model_validator

from resp229k.sources.recording import Recording
from training.config import Strict, validate
from training.errors import DataError
from training.files import digest, read_json, write_json

PRETRAIN_LIST = Path(__file__).resolve().parent / "data" / "pretrain_sprsound.json"


class SubjectList(Strict):
    """A committed list of subjects with the hash that protects it."""

    source: str
    seed: int
    made_by: str
    subjects: list[str]
    subjects_hash: str

    @model_validator(mode="after")
    def _untouched(self) -> SubjectList:
        if digest(sorted(self.subjects)) != self.subjects_hash:
            raise ValueError("the subjects do not match subjects_hash")
        return self


def pretrain_subjects(path: Path = PRETRAIN_LIST) -> frozenset[str]:
    """Subjects reserved for pre-training; no protocol puts them into another split.

    Raises:
        DataError: the list is missing.
        ConfigError: the list was edited without its hash.
    """
    return frozenset(validate(SubjectList, read_json(path), where=str(path)).subjects)


def choose_pretrain(recordings: Iterable[Recording], count: int = 70, seed: int = 0) -> SubjectList:
    """Choose the ``pretrain`` subjects of SPRSound: stratified, about ``count`` of them.

    Raises:
        DataError: there are not more than ``count`` subjects.
    """
    weights = subject_weights(recordings)
    if not 0 < count < len(weights):
        raise DataError(f"cannot keep {count} of {len(weights)} subjects for pre-training")
    share = count / len(weights)
    parts = split_subjects(weights, {"pretrain": share, "rest": 1 - share}, seed=seed)
    subjects = sorted(name for name, part in parts.items() if part == "pretrain")
    return SubjectList(
        source="sprsound",
        seed=seed,
        made_by=f"resp229k.splits.choose_pretrain(sprsound.discover(root), count={count}, seed={seed})",
        subjects=subjects,
        subjects_hash=digest(subjects),
    )


def write_pretrain_list(
    recordings: Iterable[Recording], path: Path = PRETRAIN_LIST, count: int = 70, seed: int = 0
) -> None:
    """Write the committed list (done once; shipped weights depend on it).

    ``python -c "from pathlib import Path; from resp229k.sources import sprsound; from resp229k.splits
    import write_pretrain_list; write_pretrain_list(sprsound.discover(Path('SPRSound')))"``
    """
    write_json(path, choose_pretrain(recordings, count, seed).model_dump())


def subject_weights(recordings: Iterable[Recording]) -> dict[str, Counter[str]]:
    """Subject → how many stretches (and recordings, for diseases) of each class it carries."""
    weights: dict[str, Counter[str]] = defaultdict(Counter)
    for recording in recordings:
        counter = weights[recording.subject_id]
        counter.update(f"icbhi4/{stretch.icbhi4}" for stretch in recording.stretches)
        counter.update(f"{task}/{label}" for task, label in recording.labels.items())
    return dict(weights)


def split_subjects(
    weights: Mapping[str, Mapping[str, int]], fractions: Mapping[str, float], *, seed: int
) -> dict[str, str]:
    """Assign every subject to one part.

    Args:
        weights: subject → class → clips of it.
        fractions: part → share, summing to 1.
        seed: changes the order within a class, through a hash of the subject's id, so that the
            result does not depend on the order of files.

    Raises:
        DataError: the fractions do not sum to 1.
    """
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise DataError(f"split fractions sum to {sum(fractions.values()):g}, not 1")
    carriers: dict[str, list[str]] = defaultdict(list)
    for subject in sorted(weights, key=lambda name: _hashed(name, seed)):
        for label in ["", *weights[subject]]:  # "" stands for the subject itself
            carriers[label].append(subject)
    need = {
        label: _Need(fractions, len(names), sum(weights[n].get(label, 1) for n in names))
        for label, names in carriers.items()
    }
    assigned: dict[str, str] = {}
    for label in sorted(carriers, key=lambda name: (len(carriers[name]), name)):  # the rarest first
        for subject in carriers[label]:
            if subject in assigned:
                continue
            part = max(fractions, key=lambda name: (need[label].of(name), need[""].of(name)))
            assigned[subject] = part
            for other in ["", *weights[subject]]:
                need[other].give(part, weights[subject].get(other, 1))
    return assigned


class _Need:
    """What a class still wants in every part: the mean of its missing subjects and missing clips."""

    def __init__(self, fractions: Mapping[str, float], subjects: int, clips: int):
        self.share = dict(fractions)
        self.per_subject, self.per_clip = 0.5 / max(subjects, 1), 0.5 / max(clips, 1)

    def of(self, part: str) -> float:
        return self.share[part]

    def give(self, part: str, clips: int) -> None:
        self.share[part] -= self.per_subject + clips * self.per_clip


def _hashed(subject: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{subject}".encode()).hexdigest()
