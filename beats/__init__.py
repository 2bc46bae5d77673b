"""The audio representation: filterbank, BEATs encoder, units, feature cache, and the independent judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from beats.encoder import BeatsEncoder
    from beats.tokenizer import BeatsTokenizer, Quantizer
    from beats.units import UnitTokenizer

GIVE = "a folder of ours with encoder/config.json, a published checkpoint file, or a shipped set"


def find(source: str | Path) -> Path:
    """Where BEATs weights lie, by their name in a config.

    Args:
        source: a folder of ours (or one that holds it as ``beats``), a published checkpoint file, or a
            shipped set such as ``tiny``. May hold ``${NAME}``.

    Raises:
        CheckpointError: there is no such folder, file or set.
    """
    from training.config import weights_path

    path = weights_path(source, files=True)
    inner = path / "beats"
    return inner if inner.is_dir() else path


def load(path: Path) -> tuple[BeatsEncoder, UnitTokenizer | Quantizer]:
    """Read a frozen encoder and its units, as :func:`load_tokenizer` does.

    Raises:
        CheckpointError: either is missing or damaged, or they do not belong together.
    """
    tokenizer = load_tokenizer(path)
    return tokenizer.encoder, tokenizer.quantizer


def load_encoder(path: Path) -> BeatsEncoder:
    """Read a frozen encoder: our folder (or the ``encoder`` in it), or a published checkpoint file.

    Of a published tokenizer file it is the tokenizer's own encoder.

    Raises:
        CheckpointError: missing, damaged, or without exactly one encoder.
    """
    # Imported here, so that configs can be read without torch.
    from beats.encoder import BeatsEncoder
    from beats.official import holds
    from beats.tokenizer import BeatsTokenizer
    from training.errors import CheckpointError

    if path.is_dir():
        inner = path / "encoder" if (path / "encoder").is_dir() else path
        if not (inner / "config.json").is_file():
            raise CheckpointError("holds no BEATs encoder", path=path, cure=f"give {GIVE}")
        encoder = BeatsEncoder.from_pretrained(inner)
    elif holds(path) == "tokenizer":
        encoder = BeatsTokenizer.from_official(path).encoder
    else:
        encoder = BeatsEncoder.from_official(path)
    _freeze(encoder)
    return encoder


def load_tokenizer(path: Path) -> BeatsTokenizer:
    """Read a frozen encoder with its units: our folder of both, or a published tokenizer file.

    Raises:
        CheckpointError: missing, damaged, or without exactly one tokenizer.
    """
    from beats.tokenizer import BeatsTokenizer
    from training.errors import CheckpointError

    try:
        tokenizer = (
            BeatsTokenizer.from_pretrained(path) if path.is_dir() else BeatsTokenizer.from_official(path)
        )
    except CheckpointError as error:
        raise CheckpointError(
            error.message,
            path=error.path or path,
            cure=error.cure
            or "give a folder with encoder and tokenizer of one training, or a published tokenizer",
        ) from error
    _freeze(tokenizer)
    return tokenizer


def _freeze(network: nn.Module) -> None:
    for parameter in network.parameters():
        parameter.requires_grad_(False)
