"""One recording: decode, judge, resample, write the FLAC copy, cut its clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from resp229k.audio import RATE, SILENCE, read_audio, resample, write_wav
from resp229k.clip import Clip, Event
from resp229k.quarantine import MIN_SECONDS, SHORT, SILENT, Finding, reason_of
from resp229k.sources.recording import Recording, Stretch
from training.config import Strict
from training.errors import AudioError

TOLERANCE = 0.01  # s; annotations are rounded, one published cycle ends 0.25 ms after its recording
MAX_GAP = 0.05  # s of exact zeros: a microphone has a noise floor, a longer gap was put in by software


class Converted(Strict):
    """Clips of one recording (their split still open) and what was found wrong with it."""

    clips: list[Clip] = []
    findings: list[Finding] = []


def convert(recording: Recording, root: Path, folder: Path, *, whole: bool) -> Converted:
    """Write ``folder/audio/<source>/<stem>.flac`` and cut clips; faults become findings.

    Args:
        recording: with its audio here.
        root: findings name paths relative to it.
        folder: of the corpus; ``audio/<source>`` exists.
        whole: one clip of the whole file instead of one per stretch.
    """
    source = recording.path.relative_to(root).as_posix()
    try:
        wave, rate = read_audio(recording.path)
    except AudioError as error:
        size = float(recording.path.stat().st_size)
        return Converted(findings=[Finding(path=source, reason=reason_of(error), figure=size)])
    seconds = wave.size / rate
    stretches = (_whole(recording, seconds),) if whole else recording.stretches
    clips, findings = [], []
    for index, stretch in enumerate(stretches):
        clip_id = f"{recording.source}-{recording.path.stem}" + ("" if whole else f"-{index:03d}")
        fault = _fault(stretch, wave, rate, whole)
        if fault is None:
            clips.append(_clip(clip_id, recording, stretch, seconds, rate, whole))
        else:
            findings.append(Finding(path=source, reason=fault[0], figure=fault[1], clip_id=clip_id))
    if clips:
        write_wav(folder / clips[0].path, resample(wave, rate, RATE), synthetic=False)
    return Converted(clips=clips, findings=findings)


def _whole(recording: Recording, seconds: float) -> Stretch:
    return Stretch(start=0.0, end=seconds, labels=recording.labels)


def _fault(stretch: Stretch, wave: np.ndarray, rate: int, whole: bool) -> tuple[str, float] | None:
    """Why a stretch cannot be a clip, with its figure."""
    length, overhang = stretch.end - stretch.start, stretch.end - wave.size / rate
    if stretch.start < 0 or length <= 0:
        return "ends before it starts", length
    if overhang > TOLERANCE:
        return "ends after its recording", overhang
    if length < MIN_SECONDS:
        return SHORT, length
    samples = wave[round(stretch.start * rate) : round(stretch.end * rate)]
    peak = float(np.abs(samples).max())
    if peak < SILENCE:
        return SILENT, peak
    if whole and (gap := _longest_gap(samples) / rate) > MAX_GAP:
        return "has gaps of digital silence", gap
    return None


def _longest_gap(samples: np.ndarray) -> int:
    """Length in samples of the longest run of exact zeros."""
    sounding = np.flatnonzero(np.concatenate(([1], samples, [1])))
    return int(np.diff(sounding).max()) - 1


def _clip(
    clip_id: str, recording: Recording, stretch: Stretch, seconds: float, rate: int, whole: bool
) -> Clip:
    end = min(stretch.end, seconds)
    if whole:
        labels = recording.labels
        events = [event for inner in recording.stretches for event in _events(inner, 0.0, seconds)]
    else:
        disease = {k: v for k, v in recording.labels.items() if k == "disease16"}
        labels = disease | stretch.labels | {"icbhi4": stretch.icbhi4}
        events = _events(stretch, stretch.start, end)
    return Clip(
        clip_id=clip_id,
        recording_id=recording.recording_id,
        subject_id=recording.subject_id,
        source=recording.source,
        split="train",  # the caller knows the subject's split
        path=f"audio/{recording.source}/{recording.path.stem}.flac",
        start=stretch.start,
        end=end,
        device=recording.device,
        sample_rate=rate,
        labels=labels,
        events=events,
        metadata=recording.metadata,
    )


def _events(stretch: Stretch, origin: float, latest: float) -> list[Event]:
    """The sounds of a stretch, in seconds from ``origin``, within the recording."""
    start, end = min(stretch.start, latest), min(stretch.end, latest)
    if start < 0 or end < start:
        return []
    return [Event(kind=kind, start=start - origin, end=end - origin) for kind in stretch.kinds]
