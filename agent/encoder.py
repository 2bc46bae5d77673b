"""The encoder that a loop's diagnosers hear with: its name inside the run, its digest, its subjects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import beats
from agent.config import LoopConfig
from training.config import PACKAGE_DATA

if TYPE_CHECKING:
    from training.model import Provenance


@dataclass(frozen=True)
class EncoderFacts:
    """SHA-256 over an encoder's config and tensors, and whom it was trained and chosen on."""

    digest: str
    provenance: Provenance


def encoder_facts(config: LoopConfig, weights: Path) -> EncoderFacts:
    """Read the encoder of ``beats.weights``, by default that of the loop's weights folder.

    Raises:
        CheckpointError: there is none.
    """
    from training.model import weights_digest

    own = config.beats.weights
    encoder = beats.load_encoder(weights / "beats" if own is None else beats.find(own))
    return EncoderFacts(weights_digest(encoder), encoder.provenance)


def encoder_name(config: LoopConfig, weights: Path) -> str:
    """How the training config inside the run names the encoder.

    A shipped set and an absolute path with ``${NAME}`` go as they are, so that the run can be moved; any
    other path is the user's own and goes absolute, because training starts in the run folder.
    """
    own = config.beats.weights
    name, path = (config.weights, weights) if own is None else (own, beats.find(own))
    as_it_is = path.is_relative_to(PACKAGE_DATA) or ("${" in name and path.is_absolute())
    known = name if as_it_is else str(path.resolve())
    return f"{known}/beats" if own is None else known
