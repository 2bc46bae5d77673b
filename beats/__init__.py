"""The audio representation: filterbank, BEATs encoder, units, feature cache, and the independent judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beats.encoder import BeatsEncoder
    from beats.units import UnitTokenizer


def load(folder: Path) -> tuple[BeatsEncoder, UnitTokenizer]:
    """Read a frozen encoder and its units from ``folder/encoder`` and ``folder/tokenizer``.

    Raises:
        CheckpointError: either is missing or damaged, or they do not belong together.
    """
    # Imported here, so that configs can be read without torch.
    from beats.encoder import BeatsEncoder
    from beats.units import UnitTokenizer
    from training.errors import CheckpointError

    encoder = BeatsEncoder.from_pretrained(folder / "encoder")
    tokenizer = UnitTokenizer.from_pretrained(folder / "tokenizer")
    if tokenizer.config.dim != encoder.width:
        raise CheckpointError(
            f"units for features {tokenizer.config.dim} wide, the encoder's are {encoder.width}", path=folder
        )
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    return encoder, tokenizer
