"""Annotations of one recording, in the file that its publisher put beside it."""

from __future__ import annotations

from pathlib import Path

from resp229k.sources.icbhi import cycle
from resp229k.sources.recording import Stretch
from resp229k.sources.sprsound import stretch
from resp229k.sources.sprsound_files import read_annotation
from training.errors import DataError


def annotated(name: str, folder: Path) -> tuple[Stretch, ...] | None:
    """Annotated cycles (ICBHI, ``<name>.txt``) or events (SPRSound, ``<name>.json``); None without a file.

    Args:
        name: of the recording, without suffix.
        folder: where the annotation lies.

    Raises:
        DataError: the file is not such an annotation.
    """
    text, record = folder / f"{name}.txt", folder / f"{name}.json"
    try:
        if text.is_file():
            return tuple(
                cycle(line) for line in text.read_text(encoding="utf-8").splitlines() if line.strip()
            )
        if record.is_file():
            _, events = read_annotation(record, None)
            return tuple(stretch(event) for event in events)
    except (ValueError, KeyError, TypeError) as error:
        path = text if text.is_file() else record
        raise DataError(
            f"is no annotation: {error}", path=path, cure="ICBHI's or SPRSound's format"
        ) from error
    return None
