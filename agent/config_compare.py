"""Config of ``resp-agent compare``: which rows. Free of torch."""

from __future__ import annotations

from pydantic import Field

from agent.config import PlannerName
from training.config import Strict


class RowConfig(Strict):
    """One row: a planner, and what its loop does otherwise than the others'.

    Attributes:
        planner: who plans.
        why: what the row shows, in a sentence.
        loop: ``KEY=VALUE`` of the loop's config, e.g. ``thinker.pick=hard``.
    """

    planner: PlannerName
    why: str = ""
    loop: tuple[str, ...] = ()


class CompareConfig(Strict):
    """The rows of a comparison, each run with and without balanced sampling.

    Attributes:
        reference: the row that all others are held against, with the same balancing.
        rows: by name, in the order of the tables.
    """

    reference: str = "oversample"
    rows: dict[str, RowConfig] = Field(min_length=1)
