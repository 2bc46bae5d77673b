"""What to build. Apart from :mod:`resp229k.build`, so that a config is read without audio libraries."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training.config import Strict

Protocol = Literal["spr2icbhi", "icbhi2spr", "subject", "pretrain"]

_HALVES = {"train": 0.6, "select": 0.2, "plan": 0.2}
_WITHIN = {"train": 0.6, "select": 0.1, "plan": 0.1, "test": 0.2}
# protocol → source → fractions of its subjects
PROTOCOLS: dict[Protocol, dict[str, dict[str, float]]] = {
    "spr2icbhi": {"sprsound": _HALVES, "icbhi": {"test": 1.0}},
    "icbhi2spr": {"icbhi": _HALVES, "sprsound": {"test": 1.0}},
    "subject": {"sprsound": _WITHIN, "icbhi": _WITHIN},
    "pretrain": {"sprsound": {"pretrain": 1.0}},
}


class BuildConfig(Strict):
    """What to build.

    Attributes:
        protocol: ``spr2icbhi`` and ``icbhi2spr`` test on the other source; ``subject`` splits each
            source within itself; ``pretrain`` is the committed pre-training subjects of SPRSound
            alone, which no other protocol touches.
        root: folder with the sources in their publishers' layout.
        clip: ``event`` cuts annotated events and breathing cycles; ``recording`` takes whole files.
        seed: of the split.
        max_per_subject: at most so many clips of one subject and class outside test, so that a few
            patients do not fill a small run; None keeps all.
    """

    protocol: Protocol = "spr2icbhi"
    root: str = "${RESP_DATA}"
    clip: Literal["event", "recording"] = "event"
    seed: int = 0
    max_per_subject: int | None = Field(default=None, ge=1)
