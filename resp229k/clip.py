"""The clip schema: what a model sees, where it comes from, and what is known about it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from training.config import Strict

Split = Literal["pretrain", "train", "select", "plan", "test"]
"""``select`` (early stopping, calibration) and ``plan`` (error profile, gate) are the two halves of valid."""

VALID: tuple[Split, ...] = ("select", "plan")

EventKind = Literal["crackle", "fine crackle", "coarse crackle", "wheeze", "rhonchus", "stridor"]


class Event(Strict):
    """One annotated sound, in seconds from the start of its clip."""

    kind: EventKind
    start: float = Field(ge=0)
    end: float = Field(ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"event ends ({self.end} s) before it starts ({self.start} s)")
        return self


class Metadata(Strict):
    """Typed facts about the subject and the session. Everything is optional: missing stays missing."""

    age_years: float | None = Field(default=None, ge=0, le=120)
    sex: Literal["female", "male"] | None = None
    bmi: float | None = Field(default=None, gt=0)
    weight_kg: float | None = Field(default=None, gt=0)
    height_cm: float | None = Field(default=None, gt=0)
    site: str | None = None  # auscultation site in words, e.g. "left posterior chest"
    diagnosis: str | None = None  # the publisher's raw label
    findings: str | None = None  # the publisher's raw record-level annotation


class Clip(Strict):
    """A stretch of one recording with its labels.

    Identities are global: ``subject_id`` is ``<source>:<subject>``, so that lists of subjects can be
    compared across corpora. ``path`` is relative to the corpus folder; ``start`` and ``end`` are
    seconds in that file.
    """

    clip_id: str
    recording_id: str
    subject_id: str
    source: str
    split: Split
    path: str
    start: float = Field(ge=0)
    end: float
    device: str | None = None
    sample_rate: int = Field(gt=0)  # Hz, of the original recording
    labels: dict[str, str] = {}  # task -> class
    events: list[Event] = []
    metadata: Metadata = Metadata()
    synthetic: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"clip {self.clip_id}: end {self.end} s is not after start {self.start} s")
        if self.synthetic and self.split != "train":
            raise ValueError(f"clip {self.clip_id} is synthetic and can only be in train, not {self.split}")
        if self.path.startswith(("/", "~")) or ".." in self.path.split("/"):
            raise ValueError(f"clip {self.clip_id}: path {self.path!r} must stay inside the corpus folder")
        return self

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.end - self.start
