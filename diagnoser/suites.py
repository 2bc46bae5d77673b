"""Evaluation suites: which recordings train, select and test, for which task, prepared how. No torch.

A suite is one or several protocols of :mod:`resp229k.splits` with a task and a preprocessing. Its parts are
the folds of a cross-validation, or the protocols one after the other; each part is a corpus with its splits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resp229k.audio import Preprocess
from resp229k.build import build_corpus, read_sources, split_record
from resp229k.buildconfig import BuildConfig
from resp229k.clip import Split
from resp229k.corpus import Corpus
from resp229k.quarantine import QUARANTINE
from resp229k.rules import ByRecording
from resp229k.sources.recording import Recording
from resp229k.splits import Protocol, load_protocol
from training.config import Strict, expand
from training.errors import ConfigError, DataError
from training.files import new_folder, read_json, write_json

COMMON = 2000.0  # Hz: what the recorders of SPRSound and ICBHI have in common
ROOT = "${RESP_DATA}"
BUILD = "build.json"
NEEDED: tuple[Split, ...] = ("train", "select", "test")
SOURCES = ("uk_covid19", "icbhi", "sprsound", "coughvid", "kauh")  # of the leave-one-source-out protocols

# Looped: neither the length of an event nor that of a recording can be read from the padding.
EVENT = Preprocess(seconds=4.0, fit="loop")
CROSSED = Preprocess(seconds=4.0, fit="loop", bandwidth=COMMON)
RECORD = Preprocess(seconds=10.0, fit="loop")
SOURCE_BLIND = Preprocess(seconds=10.0, fit="loop", bandwidth=COMMON)


class Suite(Strict):
    """What a suite judges.

    Attributes:
        task: which labels.
        protocols: of :mod:`resp229k.splits`; several are parts of one suite.
        clip: annotated events and cycles, or whole recordings.
        preprocess: how a clip becomes a model's input; every model of the suite should be trained with it.
        complete: refuse a download that lacks recordings: on a share of them the figure would bear a
            published name and not be comparable.
    """

    task: str
    protocols: tuple[str, ...]
    clip: Literal["event", "recording"] = "event"
    preprocess: Preprocess = EVENT
    complete: bool = False

    @property
    def folds(self) -> int:
        """How many folds its protocols have; 1 where nothing is crossed."""
        return max(load_protocol(name).folds for name in self.protocols)

    @property
    def bandwidth(self) -> float | None:
        """Hz of every clip; None: as recorded."""
        return self.preprocess.bandwidth


def _diseases(*protocols: str, complete: bool = False) -> Suite:
    return Suite(
        task="disease16",
        protocols=protocols,
        clip="recording",
        preprocess=SOURCE_BLIND,
        complete=complete,
    )


def _spr_published(part: str) -> dict[str, Suite]:
    names = (f"sprsound-{part}",)
    return {
        f"spr-{part}": Suite(task="spr_event", protocols=names, complete=True),
        f"spr-{part}-records": Suite(
            task="spr_record", protocols=names, clip="recording", preprocess=RECORD, complete=True
        ),
    }


SUITES: dict[str, Suite] = {
    "icbhi": Suite(task="icbhi4", protocols=("icbhi-5fold",)),
    "icbhi-official": Suite(task="icbhi4", protocols=("icbhi-official",), complete=True),
    "spr": Suite(task="spr_event", protocols=("sprsound-5fold",)),
    "spr-records": Suite(
        task="spr_record", protocols=("sprsound-5fold",), clip="recording", preprocess=RECORD
    ),
    **_spr_published("inter"),
    **_spr_published("intra"),
    "spr2icbhi": Suite(task="icbhi4", protocols=("spr2icbhi",), preprocess=CROSSED),
    "icbhi2spr": Suite(task="icbhi4", protocols=("icbhi2spr",), preprocess=CROSSED),
    "test-cd": _diseases("paper", complete=True),
    "covid": Suite(
        task="covid", protocols=("paper",), clip="recording", preprocess=SOURCE_BLIND, complete=True
    ),
    "loso": _diseases(*(f"loso-{source}" for source in SOURCES)),
    **{f"ood:{source}": _diseases(f"loso-{source}") for source in SOURCES},
}


@dataclass(frozen=True)
class SuitePart:
    """One train-select-plan-test division of a suite.

    Attributes:
        name: e.g. ``spr fold 0``.
        corpus: splits as the protocol says; its folder holds the same manifest.
        task: which labels.
        preprocess: how a clip becomes a model's input.
        shared: subjects that a split as published puts on both sides of test.
    """

    name: str
    corpus: Corpus
    task: str
    preprocess: Preprocess
    shared: frozenset[str] = frozenset()


def suite_names() -> tuple[str, ...]:
    """Names of the suites."""
    return tuple(SUITES)


def get_suite(name: str) -> Suite:
    """A suite by name.

    Raises:
        ConfigError: there is no such suite.
    """
    if name not in SUITES:
        raise ConfigError(f"unknown suite {name!r}", cure=f"use one of: {', '.join(SUITES)}")
    return SUITES[name]


def load_suite(name: str, *, root: str | None = None, work: Path) -> list[SuitePart]:
    """Build the corpora of a suite, or reopen them.

    Audio is converted once: further folds, and protocols of the same recordings, link to it.

    Args:
        name: of :data:`SUITES`.
        root: folder of the sources in their publishers' layout; None takes ``${RESP_DATA}``.
        work: keeps the corpora, one folder for each protocol and fold.

    Raises:
        ConfigError: there is no such suite, or ``root`` names a variable that is not set.
        DataError: audio is missing, named by source and file, or a part has no clips of the task.
    """
    suite = get_suite(name)
    root = root or ROOT
    read: dict[tuple[str, ...], list[Recording]] = {}
    parts: list[SuitePart] = []
    base: tuple[Path, set[str]] | None = None  # folder that holds audio, and the recordings behind it
    for protocol in map(load_protocol, suite.protocols):
        if protocol.sources not in read:
            read[protocol.sources] = read_sources(protocol, expand(root))
        recordings = read[protocol.sources]
        _need_audio(name, suite, protocol, recordings)
        for fold in range(protocol.folds):
            called = _called(name, suite, protocol, fold)
            folder = work / (f"{protocol.name}-{suite.clip}" + (f"-fold{fold}" if fold else ""))
            splits = protocol.assign(recordings, fold)
            config = BuildConfig(protocol=protocol.name, root=root, clip=suite.clip, fold=fold)
            if base is not None and base[1] == set(splits):
                corpus = _linked(base[0], folder, protocol, config, splits)
            else:
                corpus, base = build_corpus(config, folder), (folder, set(splits))
            _need_clips(called, suite.task, corpus)
            parts.append(SuitePart(called, corpus, suite.task, suite.preprocess, protocol.shared_subjects))
    return parts


def _called(name: str, suite: Suite, protocol: Protocol, fold: int) -> str:
    which = [name]
    if len(suite.protocols) > 1:
        which.append(protocol.name.removeprefix("loso-"))
    if protocol.folds > 1:
        which.append(f"fold {fold}")
    return " ".join(which)


def _need_audio(name: str, suite: Suite, protocol: Protocol, recordings: Sequence[Recording]) -> None:
    """Say which audio is missing before anything is converted.

    Raises:
        DataError: a split has none, or the suite needs all and some is missing.
    """
    splits = protocol.assign(recordings)
    cure = "get the published audio (`resp-agent data sources` tells where), or choose another suite"
    for split in NEEDED:
        placed = [r for r in recordings if splits.get(r.recording_id) == split]
        absent = [r for r in placed if not r.present]
        if len(absent) == len(placed):
            example = f", e.g. {absent[0].path.name}" if absent else ""
            raise DataError(
                f"suite {name} has no audio for {split}: protocol {protocol.name} places {len(placed)} "
                f"annotated recordings of {', '.join(protocol.sources)} there, none is here{example}",
                cure=cure,
            )
        if suite.complete and absent:
            sources = sorted({r.source for r in absent})
            raise DataError(
                f"suite {name} needs all of its recordings: {len(absent)} of {len(placed)} for {split} "
                f"have no audio ({', '.join(sources)}), e.g. {absent[0].path.name}",
                cure=cure,
            )
    if suite.complete:
        _need_listed(name, protocol, {r.recording_id for r in recordings}, cure)


def _need_listed(name: str, protocol: Protocol, found: set[str], cure: str) -> None:
    """Refuse a download without recordings that the publisher's own split lists.

    Raises:
        DataError: with how many there are.
    """
    for rule in protocol.rules.values():
        if isinstance(rule, ByRecording) and (missing := sorted(set(rule.known) - found)):
            raise DataError(
                f"suite {name} needs all of its recordings: {len(missing)} of {len(rule.known)} that the "
                f"published split lists are not here, e.g. {missing[0]}",
                cure=cure,
            )


def _need_clips(part: str, task: str, corpus: Corpus) -> None:
    for split in NEEDED:
        if not len(corpus.subset(split=split, task=task)):
            raise DataError(f"{part} has no {split} clip with a label of {task}", path=corpus.folder)


def _linked(
    base: Path, folder: Path, protocol: Protocol, config: BuildConfig, splits: dict[str, Split]
) -> Corpus:
    """What :func:`resp229k.build.build_corpus` would make in ``folder``, with the audio of ``base``.

    Raises:
        DataError: the folder holds something else.
    """
    record: dict[str, Any] = read_json(base / BUILD)
    record |= split_record(config, protocol)
    if folder.exists():
        if not (folder / BUILD).is_file() or read_json(folder / BUILD) != record:
            raise DataError("exists and holds something else", path=folder, cure="remove it")
        return Corpus.open(folder)
    clips = [clip.model_copy(update={"split": splits[clip.recording_id]}) for clip in Corpus.open(base).clips]
    with new_folder(folder) as temporary:
        # Relative, so that the working folder can be moved.
        (temporary / "audio").symlink_to(Path(os.pardir) / base.name / "audio")
        Corpus(temporary, clips).save(shared=protocol.shared_subjects)
        (temporary / QUARANTINE).write_bytes((base / QUARANTINE).read_bytes())
        write_json(temporary / BUILD, record)
    return Corpus.open(folder)
