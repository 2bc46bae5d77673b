"""The screen: which synthetic clips may join training, and why the others may not."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from agent.config import ScreenSettings
from resp229k.audio import RATE
from training.config import Strict

FULL_SCALE = 0.999  # |sample| from which on a 16-bit sample counts as clipped

Reason = Literal[
    "kept",
    "not finite",
    "silent",
    "clipped",
    "too short",
    "duplicate",
    "near duplicate",
    "off class",
    "surplus",
]
HARD: frozenset[str] = frozenset(
    {"not finite", "silent", "clipped", "too short", "duplicate", "near duplicate"}
)


class Candidate(Strict):
    """A synthetic clip before the screen."""

    clip_id: str
    label: str


class Verdict(Strict):
    """What the screen found of one clip; ``rank`` 1 is the judge's first choice."""

    clip_id: str
    label: str
    kept: bool
    reason: Reason
    detail: str = ""
    rank: int | None = None
    probability: float | None = None


class ScreenReport(Strict):
    """All verdicts, and per class how many were planned, generated and kept."""

    verdicts: list[Verdict]
    planned: dict[str, int]
    generated: dict[str, int]
    kept: dict[str, int]
    short: dict[str, int]  # planned clips that are missing after the screen

    @property
    def kept_ids(self) -> set[str]:
        """Ids of the clips that stay."""
        return {v.clip_id for v in self.verdicts if v.kept}


def hard_check(wave: np.ndarray, settings: ScreenSettings) -> tuple[Reason, str] | None:
    """Whether samples ``(N,)`` at 16 kHz are usable at all; None when they are."""
    if not np.isfinite(wave).all():
        return "not finite", f"{int((~np.isfinite(wave)).sum())} samples"
    seconds = wave.size / RATE
    if seconds < settings.min_seconds:
        return "too short", f"{seconds:.2f} s, at least {settings.min_seconds} s"
    peak = float(np.abs(wave).max())
    if peak < settings.min_peak:
        return "silent", f"peak {peak:.4f}, at least {settings.min_peak}"
    clipped = float((np.abs(wave) >= FULL_SCALE).mean())
    if clipped > settings.max_clipped:
        return "clipped", f"{clipped:.1%} of the samples, at most {settings.max_clipped:.1%}"
    return None


def screen(
    candidates: Sequence[Candidate],
    waves: Sequence[np.ndarray],
    fingerprints: np.ndarray,
    probabilities: np.ndarray,
    judge_classes: Sequence[str],
    planned: Mapping[str, int],
    settings: ScreenSettings,
) -> ScreenReport:
    """Judge every candidate and keep the best ``planned`` of each class.

    Args:
        candidates: ``N`` clips, in a fixed order.
        waves: their samples, each ``(n,)`` at 16 kHz.
        fingerprints: ``(N, D)`` finite features in which near duplicates are looked for.
        probabilities: ``(N, C)`` of the judge, in the order of ``judge_classes``.
        judge_classes: the judge's classes.
        planned: clips wanted per class.
        settings: thresholds.
    """
    found = _hard_verdicts(candidates, waves, fingerprints, settings)
    opinions = [
        _opinion(c.label, row, judge_classes) for c, row in zip(candidates, probabilities, strict=True)
    ]
    for i, (rank, probability) in enumerate(opinions):
        if found[i] is None and (rank > settings.min_rank or probability < settings.min_probability):
            found[i] = ("off class", f"rank {rank}, probability {probability:.3f}")
    for label in sorted(planned):
        mine = [i for i, c in enumerate(candidates) if c.label == label]
        # The likeliest first; the id breaks ties, so that equal inputs keep equal clips.
        mine.sort(key=lambda i: (-opinions[i][1], candidates[i].clip_id))
        passed = [i for i in mine if found[i] is None]
        for i in passed[planned[label] :]:
            found[i] = ("surplus", f"{planned[label]} planned, better ones stay")
    verdicts = [
        _verdict(c, reason, opinion) for c, reason, opinion in zip(candidates, found, opinions, strict=True)
    ]
    return _report(verdicts, planned)


def _hard_verdicts(
    candidates: Sequence[Candidate],
    waves: Sequence[np.ndarray],
    fingerprints: np.ndarray,
    settings: ScreenSettings,
) -> list[tuple[Reason, str] | None]:
    """Usability, then exact and near duplicates of an earlier usable clip of the batch."""
    found: list[tuple[Reason, str] | None] = [hard_check(wave, settings) for wave in waves]
    usable = [i for i, reason in enumerate(found) if reason is None]
    seen: dict[str, int] = {}
    for i in usable:
        key = hashlib.sha256(np.round(waves[i] * 32767).astype("<i2").tobytes()).hexdigest()
        if key in seen:
            found[i] = ("duplicate", f"of {candidates[seen[key]].clip_id}")
        else:
            seen[key] = i
    distinct = [i for i in usable if found[i] is None]
    unit = _unit_rows(fingerprints[distinct]) if distinct else np.zeros((0, 1))
    first: list[int] = []  # rows of `unit` that stay
    for row, i in enumerate(distinct):
        if first:
            cosines = unit[first] @ unit[row]
            best = int(cosines.argmax())
            if cosines[best] > settings.max_cosine:
                other = candidates[distinct[first[best]]].clip_id
                found[i] = ("near duplicate", f"of {other}, cosine {cosines[best]:.3f}")
                continue
        first.append(row)
    return found


def _unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows centred on the batch mean, of length one; a batch of fewer than three is not centred."""
    values = features.astype(np.float64)
    if len(values) > 2:
        values = values - values.mean(axis=0)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def _opinion(label: str, row: np.ndarray, classes: Sequence[str]) -> tuple[int, float]:
    """Rank (1 = first) and probability that the judge gives to ``label``."""
    mine = float(row[list(classes).index(label)])
    return 1 + int((row > mine).sum()), round(mine, 6)


def _verdict(candidate: Candidate, reason: tuple[Reason, str] | None, opinion: tuple[int, float]) -> Verdict:
    word, detail = reason or ("kept", "")
    hard = word in HARD
    return Verdict(
        clip_id=candidate.clip_id,
        label=candidate.label,
        kept=word.startswith("kept"),
        reason=word,
        detail=detail,
        rank=None if hard else opinion[0],
        probability=None if hard else opinion[1],
    )


def _report(verdicts: list[Verdict], planned: Mapping[str, int]) -> ScreenReport:
    def count(only_kept: bool) -> dict[str, int]:
        return {
            name: sum(v.label == name and (v.kept or not only_kept) for v in verdicts)
            for name in sorted(planned)
        }

    kept = count(True)
    return ScreenReport(
        verdicts=verdicts,
        planned=dict(sorted(planned.items())),
        generated=count(False),
        kept=kept,
        short={name: planned[name] - kept[name] for name in sorted(planned) if kept[name] < planned[name]},
    )


def fingerprints(waves: Sequence[np.ndarray], bands: int = 16, frames: int = 32) -> np.ndarray:
    """Log-power pictures ``(N, bands x frames)`` of waves ``(n,)``, whatever their length.

    Bands are even on a logarithmic axis from 60 Hz to 8 kHz, frames even over the clip.
    """
    edges = np.geomspace(60, RATE / 2, bands + 1)
    found = np.zeros((len(waves), bands * frames))
    for row, wave in zip(found, waves, strict=True):
        clean = np.nan_to_num(wave.astype(np.float64), posinf=0.0, neginf=0.0)
        parts = np.array_split(np.pad(clean, (0, max(0, 512 * frames - clean.size))), frames)
        size = min(part.size for part in parts)
        power = np.abs(np.fft.rfft(np.stack([p[:size] for p in parts]) * np.hanning(size), axis=1)) ** 2
        bins = np.searchsorted(np.fft.rfftfreq(size, 1 / RATE), edges)
        sums = [power[:, a : max(b, a + 1)].mean(axis=1) for a, b in itertools.pairwise(bins)]
        row[:] = np.log(np.stack(sums, axis=1) + 1e-10).ravel()
    return found
