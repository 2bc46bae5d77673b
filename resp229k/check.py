"""Quality check of a corpus folder: reports and quarantines, never repairs."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np

from resp229k.audio import RATE, SILENCE, read_audio
from resp229k.clip import Clip
from resp229k.corpus import read_manifest
from resp229k.quarantine import (
    MIN_SECONDS,
    QUARANTINE,
    SHORT,
    SILENT,
    UNKNOWN_LABEL,
    Finding,
    read_quarantine,
    reason_of,
    write_quarantine,
)
from resp229k.tasks import TASKS
from training.errors import AudioError
from training.progress import track

DUPLICATE = "same audio as another clip"
CONTRADICTION = "same audio as another clip under another label"
LEAK = "same audio as a clip of another split"
TWO_SPLITS = "subject is in two splits"


def check_corpus(folder: Path) -> list[Finding]:
    """Read every clip of a corpus and report what is wrong with it.

    Finds: recordings that are missing, undecodable or empty; clips that are silent, too short, or
    end after their file; clips with byte-identical audio (worse: under contradictory labels, or in
    two splits); labels that are not their task's; subjects in two splits. Clips that were
    quarantined before are read again: whoever repaired them gets them back.

    Raises:
        DataError: the folder has no valid manifest.
    """
    everything = read_manifest(folder / "manifest.parquet")
    ordered = sorted(everything, key=lambda clip: clip.path)
    files = [(path, list(clips)) for path, clips in groupby(ordered, key=lambda clip: clip.path)]
    findings: list[Finding] = []
    same: dict[str, list[Clip]] = defaultdict(list)
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_check_file, folder, path, clips) for path, clips in files]
        for job in track(jobs, "reading clips"):
            found, contents = job.result()
            findings += found
            for content, clip in contents:
                same[content].append(clip)
    for clips in same.values():
        findings += _duplicates(clips)
    return findings + _unknown_labels(everything) + _two_splits(everything)


def quarantine_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """Put what :func:`check_corpus` found into the folder's quarantine, beside what the build left out.

    The rows of an earlier check are replaced. :meth:`Corpus.open` leaves out what stands there.

    Raises:
        DataError: the folder has no valid manifest, or a quarantine table that cannot be read.
    """
    earlier = read_quarantine(folder) if (folder / QUARANTINE).is_file() else []
    if not earlier and not findings:
        return
    # The build names published files, the check the corpus's own.
    checked = {clip.path for clip in read_manifest(folder / "manifest.parquet")}
    kept = [finding for finding in earlier if finding.path not in checked]
    write_quarantine([*kept, *findings], folder / QUARANTINE)


def _check_file(
    folder: Path, path: str, clips: Sequence[Clip]
) -> tuple[list[Finding], list[tuple[str, Clip]]]:
    """Faults of one file and its clips, and the content hash of every sound clip."""
    try:
        wave, rate = read_audio(folder / path)
    except AudioError as error:
        size = float((folder / path).stat().st_size) if (folder / path).is_file() else None
        return [Finding(path=path, reason=reason_of(error), figure=size)], []
    findings: list[Finding] = []
    if rate != RATE:
        findings.append(Finding(path=path, reason="is not at 16 kHz", figure=rate))
    contents = []
    for clip in clips:
        samples = wave[round(clip.start * rate) : round(clip.end * rate)]
        fault = _fault(clip, samples, wave.size / rate)
        if fault is None:
            contents.append((hashlib.sha256(samples.tobytes()).hexdigest(), clip))
        else:
            findings.append(Finding(path=path, reason=fault[0], figure=fault[1], clip_id=clip.clip_id))
    return findings, contents


def _fault(clip: Clip, samples: np.ndarray, seconds: float) -> tuple[str, float] | None:
    if clip.end > seconds + 1 / RATE:
        return "ends after its file", clip.end - seconds
    if clip.seconds < MIN_SECONDS:
        return SHORT, clip.seconds
    peak = float(np.abs(samples).max())
    return (SILENT, peak) if peak < SILENCE else None


def _duplicates(clips: Sequence[Clip]) -> list[Finding]:
    """Findings of a group with identical audio, every clip against the group's first.

    A contradiction concerns all of the group: nobody knows which label is the right one.
    """
    first, findings = clips[0], []
    classes: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        for task, label in clip.labels.items():
            classes[task].add(label)
    contradictory = any(len(labels) > 1 for labels in classes.values())
    for clip in clips:
        reasons = [] if clip is first else [DUPLICATE]
        if contradictory:
            reasons.append(CONTRADICTION)
        if clip.split != first.split:
            reasons.append(LEAK)
        findings += [
            Finding(path=clip.path, reason=reason, figure=len(clips), clip_id=clip.clip_id)
            for reason in reasons
        ]
    return findings


def _unknown_labels(clips: Sequence[Clip]) -> list[Finding]:
    """Labels that are not of their task, or of no task that there is."""
    return [
        Finding(path=clip.path, reason=UNKNOWN_LABEL, clip_id=clip.clip_id, detail=f"{task} {label!r}")
        for clip in clips
        for task, label in clip.labels.items()
        if task not in TASKS or label not in TASKS[task].classes
    ]


def _two_splits(clips: Sequence[Clip]) -> list[Finding]:
    """Clips outside the split that holds most of their subject's.

    A synthetic clip carries its style reference's subject and is exempt.
    """
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in clips:
        if not clip.synthetic:
            splits[clip.subject_id][clip.split] += 1
    home = {name: parts.most_common(1)[0][0] for name, parts in splits.items()}
    return [
        Finding(path=clip.path, reason=TWO_SPLITS, figure=len(splits[clip.subject_id]), clip_id=clip.clip_id)
        for clip in clips
        if not clip.synthetic and clip.split != home[clip.subject_id]
    ]
