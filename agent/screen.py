"""The screen: which synthetic clips may join training, and why the others may not."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.config import Pick, ScreenSettings
from resp229k.audio import RATE
from training.config import Strict
from training.errors import DataError
from training.seeds import derive

FULL_SCALE = 0.999  # |sample| from which on a 16-bit sample counts as clipped

Reason = Literal[
    "kept",
    "not finite",
    "silent",
    "clipped",
    "too short",
    "duplicate",
    "near duplicate",
    "copy",
    "off class",
    "too hard",
    "surplus",
]
HARD: frozenset[str] = frozenset(
    {"not finite", "silent", "clipped", "too short", "duplicate", "near duplicate"}
)
Found = list[tuple[Reason, str] | None]
Group = tuple[str, Pick | None]  # class, and how the plan picks among its candidates


class Candidate(Strict):
    """A synthetic clip before the screen; ``pick`` is the plan's."""

    clip_id: str
    label: str
    pick: Pick | None = None


class Verdict(Strict):
    """What the screen found of one clip; ``rank`` 1 is the judge's first choice.

    ``loss`` is the current diagnoser's, in nats, where the plan says which to pick.
    """

    clip_id: str
    label: str
    kept: bool
    reason: Reason
    detail: str = ""
    rank: int | None = None
    probability: float | None = None
    pick: Pick | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Checks:
    """What the screen may ask of others, each for the waves that got that far.

    Attributes:
        copied: what each of some waves is a copy of, empty where of nothing; None: nobody looks.
        losses: of the current diagnoser on candidates, nats ``(N,)``; needed where the plan picks.
        judged: whether a candidate must be heard as its class. Not asked of restyled clips: their class
            is that of the real clip inside, and a weak judge would only take the typical ones.
        seed: of ``random`` picks.
        earlier: ids of the clips that earlier rounds kept, and their fingerprints ``(M, D)``: near duplicates
            of these go, too.
    """

    copied: Callable[[Sequence[np.ndarray]], list[str]] | None = None
    losses: Callable[[Sequence[str]], np.ndarray] | None = None
    judged: bool = True
    seed: int = 0
    earlier: tuple[Sequence[str], np.ndarray] | None = None


class ScreenReport(Strict):
    """All verdicts, and per class how many were planned, generated and kept."""

    verdicts: list[Verdict]
    planned: dict[str, int]
    generated: dict[str, int]
    kept: dict[str, int]
    short: dict[str, int]  # planned clips that are missing after the screen

    @property
    def rejected(self) -> dict[str, int]:
        """Candidates per class that were unusable: all that were dropped and not merely left over."""
        return {
            name: sum(v.label == name and not v.kept and v.reason != "surplus" for v in self.verdicts)
            for name in self.generated
        }

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
    planned: Mapping[Group, int],
    settings: ScreenSettings,
    checks: Checks,
) -> ScreenReport:
    """Judge every candidate and keep the best ``planned`` of each class and pick.

    Usable, distinct, no copies and on class they must all be. Without a pick the judge's likeliest stay.
    With one the current diagnoser's loss decides: ``hard`` keeps the largest, ``easy`` the smallest,
    ``random`` any; a loss above ``max_loss`` is dropped whatever the pick, so that all three choose among
    the same candidates.

    Args:
        candidates: ``N`` clips, in a fixed order.
        waves: their samples, each ``(n,)`` at 16 kHz.
        fingerprints: ``(N, D)`` finite features in which near duplicates are looked for.
        probabilities: ``(N, C)`` of the judge, in the order of ``judge_classes``.
        judge_classes: the judge's classes; none where nobody judges.
        planned: clips wanted per class and pick.
        settings: thresholds.
        checks: what is asked of others.

    Raises:
        DataError: the plan picks and nobody gives losses.
    """
    found = _hard_verdicts(
        candidates, waves, fingerprints, settings, checks.earlier or ((), fingerprints[:0])
    )
    if checks.copied is not None:
        _drop_copies(found, waves, checks.copied)
    opinions = [
        _opinion(c.label, row, judge_classes) if checks.judged else None
        for c, row in zip(candidates, probabilities, strict=True)
    ]
    for i, opinion in enumerate(opinions):
        if found[i] is None and opinion is not None:
            rank, probability = opinion
            if rank > settings.min_rank or probability < settings.min_probability:
                found[i] = ("off class", f"rank {rank}, probability {probability:.3f}")
    losses = _losses(candidates, found, checks)
    for i, loss in losses.items():
        if loss > settings.max_loss:
            found[i] = ("too hard", f"loss {loss:.2f}, at most {settings.max_loss:g}")
    for group in sorted(planned, key=lambda g: (g[0], g[1] or "")):
        passed = [i for i, c in enumerate(candidates) if (c.label, c.pick) == group and found[i] is None]
        # The id breaks ties, so that equal inputs keep equal clips.
        passed.sort(
            key=lambda i: (
                _place(candidates[i], opinions[i], losses.get(i), checks.seed),
                candidates[i].clip_id,
            )
        )
        for i in passed[planned[group] :]:
            found[i] = ("surplus", f"{planned[group]} planned, {_better(group[1])} stay")
    verdicts = [
        _verdict(c, reason, opinion, losses.get(i))
        for i, (c, reason, opinion) in enumerate(zip(candidates, found, opinions, strict=True))
    ]
    return _report(verdicts, planned)


def _drop_copies(
    found: Found, waves: Sequence[np.ndarray], copied: Callable[[Sequence[np.ndarray]], list[str]]
) -> None:
    usable = [i for i, reason in enumerate(found) if reason is None]
    for i, detail in zip(usable, copied([waves[i] for i in usable]) if usable else [], strict=True):
        if detail:
            found[i] = ("copy", detail)


def _losses(candidates: Sequence[Candidate], found: Found, checks: Checks) -> dict[int, float]:
    """Losses of those candidates left among which the plan picks, by row."""
    asked = [i for i, c in enumerate(candidates) if c.pick is not None and found[i] is None]
    if not asked:
        return {}
    if checks.losses is None:
        raise DataError("the plan picks by the diagnoser's loss, and there is none")
    values = checks.losses([candidates[i].clip_id for i in asked])
    return {i: round(float(value), 6) for i, value in zip(asked, values, strict=True)}


def _place(candidate: Candidate, opinion: tuple[int, float] | None, loss: float | None, seed: int) -> float:
    """What candidates are sorted by, the first stay."""
    if candidate.pick is None or loss is None:
        return -opinion[1] if opinion is not None else 0.0
    if candidate.pick == "random":
        return float(derive(seed, "pick", candidate.clip_id))
    return loss if candidate.pick == "easy" else -loss


def _better(pick: Pick | None) -> str:
    return {"hard": "harder ones", "easy": "easier ones", "random": "others", None: "better ones"}[pick]


def _hard_verdicts(
    candidates: Sequence[Candidate],
    waves: Sequence[np.ndarray],
    fingerprints: np.ndarray,
    settings: ScreenSettings,
    earlier: tuple[Sequence[str], np.ndarray],
) -> Found:
    """Usability, then exact and near duplicates of an earlier round's clip or a usable one before in the batch."""
    found: Found = [hard_check(wave, settings) for wave in waves]
    usable = [i for i, reason in enumerate(found) if reason is None]
    seen: dict[str, int] = {}
    for i in usable:
        key = hashlib.sha256(np.round(waves[i] * 32767).astype("<i2").tobytes()).hexdigest()
        if key in seen:
            found[i] = ("duplicate", f"of {candidates[seen[key]].clip_id}")
        else:
            seen[key] = i
    distinct = [i for i in usable if found[i] is None]
    if not distinct:
        return found
    # A batch of fewer than three has no mean to speak of.
    centre = fingerprints[distinct].mean(axis=0) if len(distinct) > 2 else np.zeros(fingerprints.shape[1])
    rows = np.concatenate([earlier[1], fingerprints[distinct]]) - centre
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    names = [*earlier[0], *(candidates[i].clip_id for i in distinct)]
    stay = list(range(len(earlier[0])))  # rows that later ones are held against
    for row, i in enumerate(distinct, start=len(stay)):
        best = max(stay, key=lambda other: cosines[row, other], default=row)
        if best != row and cosines[row, best] > settings.max_cosine:
            found[i] = ("near duplicate", f"of {names[best]}, cosine {cosines[row, best]:.3f}")
        else:
            stay.append(row)
    return found


def _opinion(label: str, row: np.ndarray, classes: Sequence[str]) -> tuple[int, float]:
    """Rank (1 = first) and probability that the judge gives to ``label``."""
    mine = float(row[list(classes).index(label)])
    return 1 + int((row > mine).sum()), round(mine, 6)


def _verdict(
    candidate: Candidate,
    reason: tuple[Reason, str] | None,
    opinion: tuple[int, float] | None,
    loss: float | None,
) -> Verdict:
    word, detail = reason or ("kept", "")
    told = None if word in HARD else opinion
    return Verdict(
        clip_id=candidate.clip_id,
        label=candidate.label,
        kept=word == "kept",
        reason=word,
        detail=detail,
        rank=None if told is None else told[0],
        probability=None if told is None else told[1],
        pick=candidate.pick,
        loss=loss,
    )


def _report(verdicts: list[Verdict], planned: Mapping[Group, int]) -> ScreenReport:
    wanted: dict[str, int] = {}
    for (label, _), number in sorted(planned.items(), key=lambda item: item[0][0]):
        wanted[label] = wanted.get(label, 0) + number

    def count(only_kept: bool) -> dict[str, int]:
        return {name: sum(v.label == name and (v.kept or not only_kept) for v in verdicts) for name in wanted}

    kept = count(True)
    return ScreenReport(
        verdicts=verdicts,
        planned=wanted,
        generated=count(False),
        kept=kept,
        short={name: wanted[name] - kept[name] for name in wanted if kept[name] < wanted[name]},
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
