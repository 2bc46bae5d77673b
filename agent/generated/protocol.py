"""What a generator is compared on: clips it may have learned from, and real clips that nobody has met."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.splits import split_subjects
from resp229k.tasks import get_task
from training.config import Strict, validate
from training.errors import ContaminationError, DataError
from training.files import digest
from training.seeds import derive

RARE = 0.01  # share of the training side below which a class is in the tail
LEARNED = ("pretrain", "train", "select")
TEST_SEED = 1000  # of simulated test sources: far from those of `train pretrain`
PER_SUBJECT = 3  # clips of a subject of `simulate_events`


@dataclass(frozen=True)
class Sides:
    """Both sides of a comparison.

    Attributes:
        what: ``simulated``, ``sprsound``, or ``corpus`` and the name of its folder.
        task: whose labels.
        classes: of the task, those that the generator knows and that have test clips.
        tail: classes averaged apart, may be none.
        train: real clips that the generator may have learned from; empty where they are not known.
        test: real clips of the task that neither generator nor judge has met.
    """

    what: str
    task: str
    classes: tuple[str, ...]
    tail: tuple[str, ...]
    train: Corpus
    test: Corpus

    @property
    def simulated(self) -> bool:
        """Whether the simulator made the test clips, so that it can make more of them."""
        return self.what == "simulated"


@dataclass(frozen=True)
class Halves:
    """Test clips of disjoint subjects, per class equally many: ``a`` lends styles, ``b`` is compared with."""

    a: list[Clip]
    b: list[Clip]


def simulated_test(
    task: str,
    classes: Sequence[str],
    diseases: Sequence[str],
    *,
    clips: int,
    seconds: float,
    seed: int,
    work: Path,
) -> Corpus:
    """Simulated clips of new subjects in new styles, enough for two halves of ``clips`` per class.

    Args:
        task: ``disease16`` or ``icbhi4``.
        classes: of the task.
        diseases: whose recipes every second subject has.
        clips: per class and half.
        seconds: length of a clip.
        seed: of the sources.
        work: keeps the corpus.
    """
    from resp229k.simulate import simulate_events

    subjects = 2 * (-(-clips // PER_SUBJECT) + 1)  # one more per half: halves differ by one at most
    count = 2 * PER_SUBJECT * subjects * len(classes)  # every second subject is drawn for the other task
    name = digest([count, seed, list(diseases), seconds])[:8]
    corpus = simulate_events(
        count, TEST_SEED + seed, work / f"sim-test-{name}", classes=diseases, seconds=seconds
    )
    return as_test(corpus.subset(task=task).clips, corpus.folder)


class Taught(Strict):
    """What of ``pretrain.yaml`` decides the simulated clips of a generator."""

    events: int
    further_events: int
    classes: tuple[str, ...]
    seconds: float
    seed: int


def simulated_train(weights: Path, known: Sequence[str], work: Path, limit: int | None) -> Corpus:
    """The simulated clips that weights of ``train pretrain`` were trained on, made again, or the first of them.

    Empty where the weights do not tell how they were made.

    Args:
        weights: folder.
        known: diseases of the generator, for weights whose record lists none.
        work: keeps the corpus.
        limit: clips at most, of those with validation clips and of the further ones each.

    Raises:
        ConfigError: the record does not tell what it should.
    """
    from agent.heard import FURTHER, join
    from agent.pretrain import RECORD
    from resp229k.simulate import simulate_events

    path = weights / RECORD
    if not path.is_file():
        return Corpus(work, [])
    # The rest of the record is of no concern here, and that of older weights has other keys.
    record = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    # Before the flow decoder learned from them too, the further clips had another name.
    record = {"classes": known, "further_events": record.get("mllm_events", 0)} | record
    told = validate(Taught, {name: record.get(name) for name in Taught.model_fields}, where=str(path))
    made = []
    for events, seed in ((told.events, told.seed), (told.further_events, told.seed + FURTHER)):
        count = events if limit is None else min(limit, events)
        if count:
            name = digest([count, seed, list(told.classes), told.seconds])[:8]
            folder = work / f"sim-train-{name}"
            made.append(simulate_events(count, seed, folder, classes=told.classes, seconds=told.seconds))
    return join(made, work)


def sprsound(root: str, work: Path) -> tuple[Corpus, Corpus]:
    """Events of SPRSound: those of the pre-training subjects, and those of all others as test clips."""
    from resp229k.build import build_corpus, pretrain_corpus
    from resp229k.buildconfig import BuildConfig

    train = pretrain_corpus(root, work / "sprsound-pretrain")
    rest = build_corpus(
        BuildConfig(protocol="sprsound-5fold", root=root, clip="event"), work / "sprsound-rest"
    )
    return train, as_test(rest.clips, rest.folder)


def as_test(clips: Sequence[Clip], folder: Path) -> Corpus:
    """The clips with all of them in ``test``."""
    return Corpus(folder, [clip.model_copy(update={"split": "test"}) for clip in clips])


def make_sides(
    what: str,
    task: str,
    known: Sequence[str],
    train: Corpus,
    test: Corpus,
    tail: Sequence[str] | None,
    *,
    taught: Collection[str],
) -> Sides:
    """Put the two sides together.

    Args:
        what: name of the comparison.
        task: whose labels.
        known: classes that the generator makes.
        train: clips that the generator may have learned from.
        test: held-out clips.
        tail: None takes the classes that hold less than 1 % of the training side's clips.
        taught: subjects of the generator; other clips of the training side are left out.

    Raises:
        DataError: no class, or only one, has test clips; or a class of ``tail`` is not compared.
    """
    counts = test.counts(task)
    classes = tuple(name for name in get_task(task).classes if name in known and counts[name])
    if len(classes) < 2:
        raise DataError(
            f"{len(classes)} of the generator's classes of {task} have test clips: two are needed",
            path=test.folder,
            cure=f"the generator knows {', '.join(known) or 'no class of this task'}; the test clips hold "
            + (", ".join(name for name, count in counts.items() if count) or "none of the task"),
        )
    # Of other tasks too: the generator may repeat any of them.
    learned = Corpus(train.folder, [clip for clip in train.clips if clip.subject_id in taught])
    if tail is None:
        found = learned.counts(task)
        tail = [name for name in classes if found[name] < RARE * sum(found.values())]
    check_tail(tail, classes)
    kept = Corpus(test.folder, [clip for clip in test.clips if clip.labels.get(task) in classes])
    return Sides(what, task, classes, tuple(tail), learned, kept)


def check_tail(tail: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse a tail of other classes than those that are compared.

    Raises:
        DataError: naming the first.
    """
    if strange := [name for name in tail if name not in classes]:
        raise DataError(
            f"tail class {strange[0]!r} is not compared", cure=f"compared are: {', '.join(classes)}"
        )


def check_apart(test: Sequence[str], others: Mapping[str, Collection[str]]) -> None:
    """Refuse test subjects that a network was trained on.

    Args:
        test: subjects.
        others: what a network is called → its subjects.

    Raises:
        ContaminationError: with the first offender.
    """
    for name, subjects in others.items():
        if met := sorted(set(test) & set(subjects)):
            raise ContaminationError(
                f"the {name} was trained on {len(met)} of the {len(set(test))} test subjects, e.g. {met[0]}",
                cure="take test clips of other subjects, or weights that were trained without these",
            )


def check_judge(judge: Collection[str], generator: Collection[str], path: Path) -> None:
    """Refuse a judge that learned from what taught the generator: it would know the clips by heart.

    Raises:
        ContaminationError: with the first subject of both.
    """
    if met := sorted(set(judge) & set(generator)):
        raise ContaminationError(
            f"the judge shares {len(met)} subjects with the generator, e.g. {met[0]}",
            path=path,
            cure="train a judge on other subjects, and give it with --judge",
        )


def halve(sides: Sides, clips: int, seed: int) -> Halves:
    """Two halves of the test clips, subjects apart, at most ``clips`` per class and half.

    Raises:
        DataError: a class has no clips on one of the sides.
    """
    weights: dict[str, Counter[str]] = {}
    for clip in sides.test.clips:
        weights.setdefault(clip.subject_id, Counter())[clip.labels[sides.task]] += 1
    side = split_subjects(weights, {"a": 0.5, "b": 0.5}, seed=seed)
    a: list[Clip] = []
    b: list[Clip] = []
    for label in sides.classes:
        mine = [clip for clip in sides.test.clips if clip.labels[sides.task] == label]
        first, second = (
            _spread([c for c in mine if side[c.subject_id] == half], derive(seed, label, half))
            for half in ("a", "b")
        )
        count = min(clips, len(first), len(second))
        if not count:
            raise DataError(
                f"the test clips of {label} are of {len({c.subject_id for c in mine})} subjects: two halves of "
                "disjoint subjects need more",
                path=sides.test.folder,
            )
        a += first[:count]
        b += second[:count]
    return Halves(a, b)


def _spread(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """In random order, every subject's first clip before any subject's second."""
    order = np.random.default_rng(seed).permutation(len(clips))
    turn: Counter[str] = Counter()
    keyed = []
    for clip in (clips[i] for i in order):
        keyed.append((turn[clip.subject_id], clip))
        turn[clip.subject_id] += 1
    return [clip for _, clip in sorted(keyed, key=lambda pair: pair[0])]
