"""What ``resp-agent evaluate-generator`` can be asked. Free of torch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from generator.config import SampleConfig
from resp229k.tasks import TASKS
from training.config import Strict


class EvaluateConfig(Strict):
    """One evaluation of a generator.

    Attributes:
        weights: folder or shipped set.
        task: whose labels.
        clips: per class, row and seed, at most; real test clips may be fewer.
        seeds: halves of the test clips and draws of the generator.
        seed: the first of them.
        beats: what the weights were trained with, as ``beats.find`` takes it, if it is not in them.
        judge: its folder; None takes that of the weights.
        encoder: BEATs of the Fréchet distance, as ``beats.find`` takes it; None takes that of the weights.
        tail: classes averaged apart; None takes the protocol's.
        train_clips: simulated training clips that are searched for copies, of ``events`` and of ``further_events`` of
            the weights each; None takes all.
        sample: how the generator draws.
    """

    weights: str = "tiny"
    task: str = "disease16"
    clips: int = Field(default=64, ge=4)
    seeds: int = Field(default=3, ge=1)
    seed: int = Field(default=0, ge=0)
    beats: str | None = None
    judge: str | None = None
    encoder: str | None = None
    tail: tuple[str, ...] | None = None
    train_clips: int | None = Field(default=None, ge=1)
    sample: SampleConfig = SampleConfig()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}; use one of: {', '.join(TASKS)}")
        return self
