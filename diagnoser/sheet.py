"""What is known of recordings that are to be diagnosed, from a CSV file: a row each."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import ValidationError

from resp229k.clip import Clip, Metadata
from resp229k.narrative import narrate
from training.errors import DataError

FILE = "file"
LISTS = ("symptoms", "conditions")
FIELDS = ("age_years", "sex", "site", *LISTS)
"""Metadata that narratives of any task tell; see :mod:`resp229k.narrative` for why the rest stays untold."""


class Sheet(NamedTuple):
    """Metadata by file name, and the columns that nobody reads."""

    rows: dict[str, Metadata]
    unread: tuple[str, ...]

    def narrative(self, name: str, task: str, seed: int) -> str | None:
        """What the diagnoser reads of a file, worded as it was in training; None for a file without a row.

        Args:
            name: as the ``file`` column has it.
            task: that the diagnoser answers.
            seed: of the wording.
        """
        if name not in self.rows:
            return None
        clip = Clip(
            clip_id=name,
            recording_id=name,
            subject_id=name,
            source="file",
            split="test",
            path="file",
            start=0.0,
            end=1.0,
            sample_rate=1,
            metadata=self.rows[name],
        )
        return narrate(clip, task, seed=seed)


def read_sheet(path: Path) -> Sheet:
    """Read a CSV file with a column ``file`` and any of :data:`FIELDS`.

    ``file`` is relative to the folder of recordings. An empty cell is not known; symptoms and conditions
    are separated by semicolons, ``none`` says that there are none.

    Raises:
        DataError: the file cannot be read, has no ``file`` column, names a file twice, or a value is wrong;
            with its row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=True)
            columns = tuple(table.fieldnames or ())
            lines = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", path=path, cure="give a CSV file in UTF-8") from error
    if FILE not in columns:
        raise DataError(
            f"has no column {FILE!r}", path=path, cure=f"columns: {FILE}, and any of {', '.join(FIELDS)}"
        )
    rows: dict[str, Metadata] = {}
    for number, line in enumerate(lines, start=2):
        if None in line or None in line.values():
            raise DataError(f"row {number} has not as many cells as the header", path=path)
        name = str(PurePosixPath(line[FILE]))
        if not line[FILE] or name in rows:
            reason = f"row {number} names {name} again" if line[FILE] else f"row {number} names no file"
            raise DataError(reason, path=path, cure="give one row per file")
        rows[name] = _metadata(line, path, number)
    return Sheet(rows, tuple(name for name in columns if name not in (FILE, *FIELDS)))


def _metadata(line: dict[str, str], path: Path, number: int) -> Metadata:
    told: dict[str, object] = {name: line[name].strip() for name in FIELDS if line.get(name, "").strip()}
    for name in LISTS:
        if name in told:
            values = tuple(value.strip() for value in line[name].split(";") if value.strip())
            told[name] = () if [value.lower() for value in values] == ["none"] else values
    try:
        # By way of JSON's leniency: a cell is text, an age a number.
        return Metadata.model_validate(told, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"row {number}, {first['loc'][0]}: {first['msg'].lower()}, not {first['input']!r}", path=path
        ) from error
