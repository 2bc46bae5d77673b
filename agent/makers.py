"""From the loop's requests to clips: what the generator is asked, and the simulator in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from generator.request import Generated, Request
from resp229k.clip import Metadata
from resp229k.corpus import Corpus
from training.seeds import derive

if TYPE_CHECKING:
    from agent.nodes.clips import ClipRequest


def to_requests(wanted: Sequence[ClipRequest], corpus: Corpus, task: str, seconds: float) -> list[Request]:
    """What the generator is asked for.

    Args:
        wanted: by the loop.
        corpus: of the references' audio.
        task: of the labels.
        seconds: length of each clip.

    Raises:
        AudioError: a reference cannot be read.
    """
    return [
        Request(
            task=task,
            label=one.label,
            reference=corpus.audio(one.reference),
            reference_id=one.reference.clip_id,
            subject_id=one.reference.subject_id,
            seconds=seconds,
        )
        for one in wanted
    ]


def simulate(
    wanted: Sequence[ClipRequest], asked: Sequence[Request], seed: int
) -> tuple[list[Generated], list[Metadata | None]]:
    """The simulator renders each class in the style of the reference's source, by subjects of its own.

    Args:
        wanted: by the loop.
        asked: the same as requests, which name task and length.
        seed: of all clips together.
    """
    from resp229k.simulate import simulate_clip

    made: list[Generated] = []
    metadata: list[Metadata | None] = []
    for i, (ours, request) in enumerate(zip(wanted, asked, strict=True)):
        own = derive(seed, "clip", i)
        clip = simulate_clip(
            request.label, task=request.task, seed=own, seconds=request.seconds, source=ours.reference.source
        )
        made.append(Generated(clip.wave, None, request, own))
        metadata.append(clip.metadata)
    return made, metadata
