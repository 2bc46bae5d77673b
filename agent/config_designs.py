"""Config of ``resp-agent generator compare``. Free of torch."""

from __future__ import annotations

from pydantic import Field

from training.config import Strict


class Design(Strict):
    """One way to make a generator.

    Attributes:
        why: what it tries, in a sentence.
        train: ``KEY=VALUE`` of the ``generator`` settings of ``train pretrain``.
        draw: ``KEY=VALUE`` of how clips are drawn.
    """

    why: str
    train: tuple[str, ...] = ()
    draw: tuple[str, ...] = ()


class DesignsConfig(Strict):
    """Designs that are compared on the same clips, with the same encoder, units and judges.

    Attributes:
        base: preset or YAML file of ``train pretrain``: the clips, and every setting that a design leaves.
        weights: folder or shipped set that lends encoder, units and judges.
        train: ``KEY=VALUE`` of the ``generator`` settings of all designs.
        designs: by name, in the order of the table.
    """

    base: str = "tiny"
    weights: str = "tiny"
    train: tuple[str, ...] = ()
    designs: dict[str, Design] = Field(min_length=1)
