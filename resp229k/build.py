"""From published recordings to a corpus folder: 16 kHz FLAC copies, manifest, quarantine."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from resp229k.buildconfig import BuildConfig
from resp229k.clip import Clip, Split
from resp229k.convert import Converted, convert
from resp229k.corpus import Corpus
from resp229k.quality import Limits, find_twins
from resp229k.quarantine import (
    ABSENT,
    ADD_LABELS,
    NO_STRETCH,
    QUARANTINE,
    REFUSED,
    Finding,
    count_reasons,
    read_quarantine,
    refuse,
    write_quarantine,
)
from resp229k.sources.recording import Recording
from resp229k.sources.registry import adapter
from resp229k.splits import Protocol, load_protocol
from resp229k.taxonomy import version
from training.config import expand
from training.errors import DataError
from training.files import digest, new_folder, read_json, write_json
from training.progress import track

OWNER = re.compile(r" of (patient|subject|recording|participant) \S+(?= ['\"])")


def build_corpus(
    config: BuildConfig, folder: Path, *, strict: bool = False, workers: int | None = None
) -> Corpus:
    """Build a corpus folder: ``audio/<source>/*.flac``, ``manifest.parquet``, ``quarantine.parquet``.

    A folder that already holds this very build is opened as it is. ``build.json`` tells what it was
    built from.

    Args:
        config: what to build.
        folder: must not exist, or hold the same build.
        strict: refuse instead of quarantining.
        workers: threads (decoding, resampling and encoding release the interpreter lock); None takes
            all cores.

    Raises:
        ConfigError: no such protocol or fold.
        DataError: a source folder is missing or empty, a raw label is unknown, ``folder`` holds
            something else, nothing usable is left, or ``strict`` and something is quarantined.
    """
    root, protocol, limits = expand(config.root), load_protocol(config.protocol), Limits()
    recordings, splits, record = _placed(config, protocol, root, limits)
    whole = (config.clip or protocol.clip) == "recording"
    if folder.exists():
        return _reopen(folder, record, strict)
    judged = [(r, _unusable(r, root, whole)) for r in recordings]
    usable = [r for r, finding in judged if finding is None]
    findings = [finding for _, finding in judged if finding is not None]
    with new_folder(folder) as temporary:
        clips, found = _convert_all(usable, root, temporary, whole, limits, workers or os.cpu_count() or 1)
        findings += found
        if strict:
            refuse(findings, root)
        clips = [clip.model_copy(update={"split": splits[clip.recording_id]}) for clip in clips]
        if not clips:
            raise DataError(
                f"nothing usable in {len(recordings)} recordings: {count_reasons(findings)}",
                path=root,
                cure="unpack the audio beside the annotations",
            )
        clips = _limit(clips, config, "disease16" if whole else "icbhi4")
        # Refuses subjects in two splits, but for those that a split as published shares.
        Corpus(temporary, clips).save(shared=protocol.shared_subjects)
        write_quarantine(findings, temporary / QUARANTINE)
        notes = Counter(note for recording in usable for note in recording.notes)
        summary = {"quarantined": count_reasons(findings), "notes": dict(notes)}
        write_json(temporary / "build.json", record | summary)
    return Corpus.open(folder)


def pretrain_corpus(root: str, folder: Path, *, clip: Literal["event", "recording"] = "event") -> Corpus:
    """The committed pre-training subjects of SPRSound, all in split ``pretrain``."""
    return build_corpus(BuildConfig(protocol="pretrain", root=root, clip=clip), folder)


def read_sources(protocol: Protocol, root: Path) -> list[Recording]:
    """All annotated recordings of the protocol's sources.

    Raises:
        DataError: the root or a source folder is missing or empty.
    """
    if not root.is_dir():
        raise DataError("no such data folder", path=root, cure="set RESP_DATA to the folder of the sources")
    recordings: list[Recording] = []
    for source in protocol.sources:
        module = adapter(source)
        recordings += module.discover(root / module.FOLDER)
    return recordings


def _placed(
    config: BuildConfig, protocol: Protocol, root: Path, limits: Limits
) -> tuple[list[Recording], dict[str, Split], dict[str, Any]]:
    """Recordings that have a split, the split of each, and the record of what is built.

    Raises:
        DataError: as :func:`build_corpus`.
    """
    found = read_sources(protocol, root)
    splits = protocol.assign(found, config.fold)
    recordings = [r for r in found if r.recording_id in splits]
    if not recordings:
        raise DataError(
            f"protocol {protocol.name} places none of {len(found)} recordings: {protocol.what}",
            path=root,
            cure="lay the sources out as published, or choose another protocol",
        )
    _refuse_unknown(recordings, root)
    return (
        recordings,
        splits,
        {
            **split_record(config, protocol),
            "limits": limits.model_dump(),
            "taxonomy": version(),
            "left_out": dict(Counter(r.source for r in found if r.recording_id not in splits)),
            "recordings": _fingerprint(recordings, root),
        },
    )


def _refuse_unknown(recordings: Iterable[Recording], root: Path) -> None:
    """Stop at raw labels that the taxonomy does not know, before anything is decoded.

    Raises:
        DataError: with each of them, how often it occurs and one file.
    """
    # A table's unknown diagnosis is one finding, however many recordings its patient has.
    found = {(r.source, finding) for r in recordings for finding in r.unknown}
    files: dict[str, list[str]] = defaultdict(list)
    for source, finding in found:
        # Whose it is says nothing of the label: one line for all patients.
        files[f"{source}: {OWNER.sub('', finding.detail or '')}"].append(finding.path)
    if files:
        rows = [f"\n  {label} ({len(paths)} x, e.g. {min(paths)})" for label, paths in sorted(files.items())]
        raise DataError(f"unknown labels:{''.join(rows)}\n", path=root, cure=ADD_LABELS)


def _fingerprint(recordings: Sequence[Recording], root: Path) -> str:
    """Changes with any annotation, and with the size of any audio file."""
    rows = []
    for recording in recordings:
        size = recording.path.stat().st_size if recording.present else None
        rows.append([_relative(recording, root), size, recording.model_dump(mode="json", exclude={"path"})])
    return digest(rows)


def _reopen(folder: Path, record: dict[str, Any], strict: bool) -> Corpus:
    path = folder / "build.json"
    if not path.is_file() or {k: v for k, v in read_json(path).items() if k in record} != record:
        raise DataError(
            "exists and holds something else", path=folder, cure="choose another folder, or remove it"
        )
    if strict:
        refuse(read_quarantine(folder), folder)
    return Corpus.open(folder)


def _relative(recording: Recording, root: Path) -> str:
    return recording.path.relative_to(root).as_posix()


def _unusable(recording: Recording, root: Path, whole: bool) -> Finding | None:
    """What can be said before decoding."""
    path = _relative(recording, root)
    if not recording.present:
        return Finding(path=path, reason=ABSENT)
    if recording.fault is not None:
        return Finding(path=path, reason="annotation cannot be used", detail=recording.fault)
    if recording.refused is not None:
        why, figure = recording.refused
        return Finding(path=path, reason=REFUSED, figure=figure, detail=why)
    if not whole and not recording.stretches:
        return Finding(path=path, reason=NO_STRETCH, figure=0)
    return None


def _convert_all(
    recordings: Sequence[Recording], root: Path, folder: Path, whole: bool, limits: Limits, workers: int
) -> tuple[list[Clip], list[Finding]]:
    """Clips of all recordings but the copies among them, and what was found wrong."""
    for source in {r.source for r in recordings}:
        (folder / "audio" / source).mkdir(parents=True)
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(convert, r, root, folder, whole=whole, limits=limits) for r in recordings]
        results: list[Converted] = [job.result() for job in track(jobs, "16 kHz copies")]
    findings = [finding for result in results for finding in result.findings]
    twins = find_twins([result.sound for result in results if result.sound is not None])
    rejected = {finding.path for finding in twins}
    clips: list[Clip] = []
    for result in results:
        if result.sound is not None and result.sound.path in rejected:
            (folder / result.clips[0].path).unlink()
        else:
            clips += result.clips
    return clips, findings + twins


def _limit(clips: list[Clip], config: BuildConfig, task: str) -> list[Clip]:
    """Keep the first ``max_per_subject`` clips, in hashed order, of every subject and class outside test."""
    if config.max_per_subject is None:
        return clips
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for clip in clips:
        if clip.split != "test":
            groups[clip.subject_id, clip.labels.get(task, "")].append(clip.clip_id)
    dropped: set[str] = set()
    for names in groups.values():
        names.sort(key=lambda name: digest([config.seed, name]))
        dropped.update(names[config.max_per_subject :])
    return [clip for clip in clips if clip.clip_id not in dropped]


def split_record(config: BuildConfig, protocol: Protocol) -> dict[str, Any]:
    """What the record of a build says of its splits."""
    return {
        "config": config.model_dump(mode="json"),
        "protocol": protocol.name,
        "protocol_hash": protocol.content_hash,
        "fold": config.fold,
        "as_published": protocol.as_published,
        "shared_subjects": sorted(protocol.shared_subjects),
    }
