"""Which recordings lend their style, which clips give the rest, and how many distinct pairs there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from agent.planners import POLICIES, PlanItem, Policy
from agent.planners.plan import Making
from resp229k.clip import Clip
from resp229k.tasks import get_task
from training.seeds import derive


def own_clips(label: str, clips: Sequence[Clip], task: str) -> list[Clip]:
    """Real clips of a class, by id."""
    found = [c for c in clips if not c.synthetic and c.labels[task] == label]
    return sorted(found, key=lambda c: c.clip_id)


def references(
    label: str, style: Policy, clips: Sequence[Clip], task: str, partner: str | None = None
) -> list[Clip]:
    """Real training clips that may lend a class their style, by id; none where nobody can.

    ``own``: clips of the class. ``cross-source``: clips of sources that lack the class; ``cross-device``: of
    devices that lack it, in the sources that have it. Of both only normal clips where there are any, so that
    no other disease comes along with the style. ``confused-with``: clips of ``partner``.
    """
    own = own_clips(label, clips, task)
    if style == "own":
        return own
    if style == "confused-with":
        return [] if partner is None else own_clips(partner, clips, task)
    real = sorted((c for c in clips if not c.synthetic), key=lambda c: c.clip_id)
    sources, devices = {c.source for c in own}, {device(c) for c in own}
    if style == "cross-source":
        foreign = [c for c in real if c.source not in sources]
    else:
        foreign = [c for c in real if c.source in sources and device(c) not in devices]
    normal = [c for c in foreign if c.labels[task] == get_task(task).normal]
    return normal or foreign


def device(clip: Clip) -> str:
    """What a clip was recorded with; its source where nobody says."""
    return clip.device or clip.source


def draws(
    label: str, clips: Sequence[Clip], task: str, partner: str | None
) -> dict[Making, dict[Policy, int]]:
    """Distinct pairs of a style's recording and a clip of the class, by method and style."""
    own = own_clips(label, clips, task)
    found: dict[Making, dict[Policy, int]] = {"synthesize": {}, "restyle": {}}
    for style in POLICIES:
        pool = references(label, style, clips, task, partner)
        found["synthesize"][style] = len(pool) * len(own)
        found["restyle"][style] = int(_apart(pool, own, _devices_matter(style, own)).sum())
    return found


def synthesis_pairs(
    item: PlanItem, train: Sequence[Clip], task: str, partner: str | None, seed: int
) -> Iterator[tuple[Clip, Clip]]:
    """Pairs of reference and donor without end: each recording once before any lends twice.

    Distinct until all pairs were drawn.
    """
    pool = references(item.label, item.style, train, task, partner)
    np.random.default_rng(derive(seed, item.label, item.style)).shuffle(pool)  # type: ignore[arg-type]
    donors = pool if item.style == "own" else own_clips(item.label, train, task)
    while True:
        yield from _laps(pool, donors)


def restyle_pairs(
    label: str, style: Policy, train: Sequence[Clip], task: str, partner: str | None, seed: int
) -> list[tuple[Clip, Clip]]:
    """All pairs of style recording and clip, of two subjects, in a seeded order in which clips take turns.

    Where the class was recorded with several devices, ``own`` pairs are of two devices: one subject's
    recording sounds much like another's of the same.
    """
    pool = references(label, style, train, task, partner)
    own = own_clips(label, train, task)
    rng = np.random.default_rng(derive(seed, "restyle", label, style))
    rng.shuffle(pool)  # type: ignore[arg-type]
    rng.shuffle(own)  # type: ignore[arg-type]
    fits = _apart(pool, own, _devices_matter(style, own))
    rows = {c.clip_id: i for i, c in enumerate(pool)}
    columns = {c.clip_id: i for i, c in enumerate(own)}
    return [(a, b) for a, b in _laps(pool, own) if fits[rows[a.clip_id], columns[b.clip_id]]]


def _laps(pool: Sequence[Clip], donors: Sequence[Clip]) -> Iterator[tuple[Clip, Clip]]:
    """Every pair once: both lists side by side, and again with the donors moved on by one."""
    if not pool or not donors:
        return
    length = int(np.lcm(len(pool), len(donors)))
    for lap in range(len(pool) * len(donors) // length):
        for i in range(length):
            yield pool[i % len(pool)], donors[(i + lap) % len(donors)]


def _devices_matter(style: Policy, own: Sequence[Clip]) -> bool:
    return style == "own" and len({device(c) for c in own}) > 1


def _apart(pool: Sequence[Clip], own: Sequence[Clip], devices: bool) -> np.ndarray:
    """Which pairs ``(P, N)`` are of two subjects, and if asked of two devices."""
    found = np.array([[a.subject_id != b.subject_id for b in own] for a in pool], dtype=bool)
    if devices:
        found &= np.array([[device(a) != device(b) for b in own] for a in pool], dtype=bool)
    return found
