"""Quality check of a corpus folder: reports, never repairs."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np

from resp229k.audio import RATE, SILENCE, read_audio
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.quarantine import MIN_SECONDS, SHORT, SILENT, Finding, reason_of
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
    two splits); subjects in two splits.

    Raises:
        DataError: the folder has no valid manifest.
    """
    corpus = Corpus.open(folder)
    ordered = sorted(corpus.clips, key=lambda clip: clip.path)
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
    return findings + _two_splits(corpus.clips)


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
    """Findings of a group with identical audio, every clip against the group's first."""
    first, findings = clips[0], []
    for clip in clips[1:]:
        reasons = [DUPLICATE]
        if any(clip.labels[task] != first.labels[task] for task in clip.labels.keys() & first.labels.keys()):
            reasons.append(CONTRADICTION)
        if clip.split != first.split:
            reasons.append(LEAK)
        findings += [
            Finding(path=clip.path, reason=reason, figure=len(clips), clip_id=clip.clip_id)
            for reason in reasons
        ]
    return findings


def _two_splits(clips: Sequence[Clip]) -> list[Finding]:
    """Subjects in two splits; a synthetic clip carries its style reference's subject and is exempt."""
    splits: dict[str, set[str]] = defaultdict(set)
    first: dict[str, Clip] = {}
    for clip in clips:
        if not clip.synthetic:
            splits[clip.subject_id].add(clip.split)
            first.setdefault(clip.subject_id, clip)
    return [
        Finding(path=first[name].path, reason=TWO_SPLITS, figure=len(parts), clip_id=first[name].clip_id)
        for name, parts in splits.items()
        if len(parts) > 1
    ]
