"""New clips on disk: pair recordings, generate or restyle, write a corpus, screen it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.config import GeneratorSettings, Pick
from agent.nodes.references import restyle_pairs, synthesis_pairs
from agent.planners import PlanItem
from agent.screen import Candidate, Checks, ScreenReport, fingerprints
from agent.screen import screen as judge_and_keep
from agent.work import Work
from diagnoser.config import MAKERS
from resp229k.audio import RATE, load_audio
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.files import read_json, write_json

if TYPE_CHECKING:
    from agent.rooms import Made

PICKS = "picks.json"  # beside a manifest of candidates: clip id → how the plan picks
Partners = Mapping[str, str | None]  # class → the class it is most often taken for


@dataclass(frozen=True)
class ClipRequest:
    """One clip wanted: class, and the real training clip that lends its style.

    ``donor`` is a clip of the class itself. Of a synthetic clip its age, sex and site are the donor's, so
    that a narrative never tells the style's subject from the class; of a restyled clip the sound is as well.
    """

    label: str
    reference: Clip
    donor: Clip
    pick: Pick | None = None


def wanted(item: PlanItem, settings: GeneratorSettings, method: str) -> int:
    """Candidates to make of an item.

    A restyled clip holds a real clip of its class, so it needs no spare ones unless the plan picks.
    """
    if item.pick is not None:
        return item.count * settings.picked_from
    factor = 1.0 if method == "restyle" else settings.candidates
    return math.ceil(round(factor * item.count, 6))


def requests_for(
    items: Sequence[PlanItem],
    train: Corpus,
    task: str,
    settings: GeneratorSettings,
    *,
    seed: int,
    partners: Partners,
) -> list[ClipRequest]:
    """Requests for synthetic clips, references drawn without repeats first."""
    pairs: dict[tuple[str, str], Any] = {}
    found = []
    for item in items:
        key = (item.label, item.style)
        if key not in pairs:
            pairs[key] = synthesis_pairs(item, train.clips, task, partners.get(item.label), seed)
        few = islice(pairs[key], wanted(item, settings, "synthesize"))
        found += [ClipRequest(item.label, reference, donor, item.pick) for reference, donor in few]
    return found


def restyle_requests(
    items: Sequence[PlanItem],
    train: Corpus,
    task: str,
    settings: GeneratorSettings,
    *,
    seed: int,
    partners: Partners,
    used: Mapping[tuple[str, str], int],
) -> list[ClipRequest]:
    """Requests for restyled clips, from the pairs that no earlier round has ``used``."""
    begin = dict(used)
    found = []
    for item in items:
        key = (item.label, item.style)
        first = begin.get(key, 0)
        pairs = restyle_pairs(*key, train.clips, task, partners.get(item.label), seed)  # type: ignore[arg-type]
        begin[key] = first + wanted(item, settings, "restyle")
        found += [ClipRequest(item.label, a, b, item.pick) for a, b in pairs[first : begin[key]]]
    return found


def used_pairs(
    records: Sequence[Mapping[str, Any]], settings: GeneratorSettings
) -> dict[tuple[str, str], int]:
    """Restyled pairs that earlier rounds used, by class and style."""
    found: dict[tuple[str, str], int] = {}
    for record in records:
        if record.get("method") == "restyle":
            for given in record.get("items", []):
                item = PlanItem(**given)
                key = (item.label, item.style)
                found[key] = found.get(key, 0) + wanted(item, settings, "restyle")
    return found


def write_corpus(work: Work, requests: Sequence[ClipRequest], folder: Path, prefix: str, seed: int) -> Corpus:
    """Generate the requested clips and write them as a corpus of synthetic training clips."""
    made = work.rooms.generate(requests, folder, seed)
    return _save(work, requests, made, folder, prefix, work.rooms.source_name)


def write_restyled(
    work: Work, requests: Sequence[ClipRequest], folder: Path, prefix: str, seed: int
) -> Corpus:
    """Restyle the requests' donors and write them as a corpus of synthetic training clips."""
    from agent.restyle import RESTYLED, write_clips

    made = write_clips(requests, Corpus(work.path("corpus"), []), work.config.task, folder, seed)
    # Whoever lent a style has a part in these clips beside the subject that they count as.
    write_json(folder / MAKERS, sorted({r.reference.subject_id for r in requests}))
    return _save(work, requests, made, folder, prefix, RESTYLED)


def _save(
    work: Work, requests: Sequence[ClipRequest], made: Sequence[Made], folder: Path, prefix: str, source: str
) -> Corpus:
    clips = [
        synthetic_clip(request, one, f"{prefix}-{i:04d}", work.config.task, source)
        for i, (request, one) in enumerate(zip(requests, made, strict=True))
    ]
    corpus = Corpus(folder, clips)
    corpus.save()
    picks = {c.clip_id: r.pick for c, r in zip(clips, requests, strict=True) if r.pick}
    if picks:
        write_json(folder / PICKS, picks)
    return corpus


def synthetic_clip(request: ClipRequest, made: Made, clip_id: str, task: str, source: str) -> Clip:
    """The manifest row: metadata of the class, never a diagnosis, and the style's device.

    It counts as the subject whose recording it sounds like: the reference's, or if restyled the donor's.
    """
    from agent.restyle import RESTYLED

    reference = request.reference
    metadata = made.metadata or request.donor.metadata
    return Clip(
        clip_id=clip_id,
        recording_id=clip_id,
        subject_id=(request.donor if source == RESTYLED else reference).subject_id,
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


def run_screen(
    work: Work,
    corpus: Corpus,
    planned: Mapping[tuple[str, Pick | None], int],
    folder: Path,
    checks: Checks,
) -> ScreenReport:
    """Screen a corpus of candidates; write ``screen.json``, and the kept clips as ``folder/corpus``.

    A kept clip keeps the record of its provenance beside it, where its maker wrote one.
    """
    task = work.config.task
    waves = [load_audio(corpus.folder / c.path, c.start, c.end, silent_ok=True) for c in corpus.clips]
    picks = read_json(corpus.folder / PICKS) if (corpus.folder / PICKS).is_file() else {}
    report = judge_and_keep(
        [Candidate(clip_id=c.clip_id, label=c.labels[task], pick=picks.get(c.clip_id)) for c in corpus.clips],
        waves,
        fingerprints(waves),
        work.rooms.judge(waves) if checks.judged else np.zeros((len(waves), 0)),
        work.rooms.judge_classes() if checks.judged else (),
        planned,
        work.config.screen,
        checks,
    )
    write_json(folder / "screen.json", report.model_dump(mode="json"))
    kept = [c for c in corpus.clips if c.clip_id in report.kept_ids]
    for clip in kept:
        target = folder / "corpus" / clip.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(corpus.folder / clip.path, target)
        record = (corpus.folder / clip.path).with_suffix(".json")
        if record.is_file():
            shutil.copyfile(record, target.with_suffix(".json"))
    if kept:
        Corpus(folder / "corpus", kept).save()
        shutil.copyfile(corpus.folder / MAKERS, folder / "corpus" / MAKERS)
    return report


def copies_of(work: Work) -> Any:
    """A check of waves against the training clips; see :class:`agent.copies.Copies`.

    Prints and threshold depend on the corpus alone, so they are made once per run.
    """
    from agent.copies import Copies

    task, how = work.config.task, work.config.preprocess
    corpus = Corpus.open(work.path("corpus"))

    def make(folder: Path) -> dict[str, Any]:
        train, held_out = (corpus.subset(split=split, task=task) for split in ("train", "plan"))  # type: ignore[arg-type]
        found = Copies.measure(train, held_out, how)
        found.save(folder)
        return {"threshold": round(found.threshold, 6)}

    inputs = {"corpus": corpus.digest, "task": task, "preprocess": how.model_dump(mode="json")}
    folder, _ = work.once("likeness", 0, inputs, make)
    return Copies.load(work.path(folder))
