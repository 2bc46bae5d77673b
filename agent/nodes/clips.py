"""Synthetic clips on disk: choose references, generate, write a corpus, screen it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.planners import PlanItem
from agent.screen import Candidate, ScreenReport, fingerprints
from agent.screen import screen as judge_and_keep
from agent.work import Work
from diagnoser.config import MAKERS
from resp229k.audio import RATE, load_audio
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from resp229k.tasks import get_task
from training.files import write_json
from training.seeds import derive

if TYPE_CHECKING:
    from agent.rooms import Made


@dataclass(frozen=True)
class ClipRequest:
    """One synthetic clip wanted: class, and the real training clip that lends its style.

    ``donor`` is a clip of the class itself: its age, sex and site go with the synthetic clip, so that
    a narrative never tells the style's subject from the class.
    """

    label: str
    reference: Clip
    donor: Clip


def requests_for(
    items: Sequence[PlanItem], train: Corpus, task: str, *, factor: float, seed: int
) -> list[ClipRequest]:
    """Requests for a plan, ``ceil(factor · count)`` per item, references drawn without repeats first."""
    found = []
    for item in items:
        pool = references(item, train.clips, task)
        np.random.default_rng(derive(seed, item.label, item.style)).shuffle(pool)  # type: ignore[arg-type]
        donors = (
            pool
            if item.style == "own"
            else references(item.model_copy(update={"style": "own"}), train.clips, task)
        )
        wanted = math.ceil(round(factor * item.count, 6))
        found += [
            ClipRequest(item.label, pool[i % len(pool)], donors[i % len(donors)]) for i in range(wanted)
        ]
    return found


def references(item: PlanItem, clips: Sequence[Clip], task: str) -> list[Clip]:
    """Real training clips that may lend their style, by id.

    ``own``: clips of the class. ``cross-source``: clips of sources that lack the class, normal ones
    where there are any, so that no other disease comes along with the style.
    """
    clips = sorted((c for c in clips if not c.synthetic), key=lambda c: c.clip_id)
    own = [c for c in clips if c.labels[task] == item.label]
    if item.style == "own":
        return own
    mine = {c.source for c in own}
    foreign = [c for c in clips if c.source not in mine]
    normal = [c for c in foreign if c.labels[task] == get_task(task).normal]
    return normal or foreign or own


def write_corpus(work: Work, requests: Sequence[ClipRequest], folder: Path, prefix: str, seed: int) -> Corpus:
    """Generate the requested clips and write them as a corpus of synthetic training clips."""
    made = work.rooms.generate(requests, folder, seed)
    clips = [
        synthetic_clip(request, one, f"{prefix}-{i:04d}", work.config.task, work.rooms.source_name)
        for i, (request, one) in enumerate(zip(requests, made, strict=True))
    ]
    corpus = Corpus(folder, clips)
    corpus.save()
    return corpus


def synthetic_clip(request: ClipRequest, made: Made, clip_id: str, task: str, source: str) -> Clip:
    """The manifest row: the style reference's subject and metadata, the requested class, no diagnosis."""
    reference = request.reference
    metadata = made.metadata or request.donor.metadata
    return Clip(
        clip_id=clip_id,
        recording_id=clip_id,
        subject_id=reference.subject_id,
        source=source,
        split="train",
        path=made.path,
        start=0.0,
        end=made.seconds,
        device=reference.device,
        sample_rate=RATE,
        labels={task: request.label},
        metadata=metadata.model_copy(update={"diagnosis": None, "findings": None}),
        synthetic=True,
    )


def run_screen(work: Work, corpus: Corpus, planned: Mapping[str, int], folder: Path) -> ScreenReport:
    """Screen a synthetic corpus; write ``screen.json`` and the kept clips as ``folder/corpus``."""
    task = work.config.task
    waves = [load_audio(corpus.folder / c.path, c.start, c.end, silent_ok=True) for c in corpus.clips]
    report = judge_and_keep(
        [Candidate(clip_id=c.clip_id, label=c.labels[task]) for c in corpus.clips],
        waves,
        fingerprints(waves),
        work.rooms.judge(waves),
        work.rooms.judge_classes(),
        planned,
        work.config.screen,
    )
    write_json(folder / "screen.json", report.model_dump(mode="json"))
    kept = [c for c in corpus.clips if c.clip_id in report.kept_ids]
    for clip in kept:
        target = folder / "corpus" / clip.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(corpus.folder / clip.path, target)
    if kept:
        Corpus(folder / "corpus", kept).save()
        shutil.copyfile(corpus.folder / MAKERS, folder / "corpus" / MAKERS)
    return report
