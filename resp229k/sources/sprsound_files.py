"""Where SPRSound's annotations and audio lie, and the tables of its children.

The first release is ``train_json/``, ``train_wav/`` and ``Patient Summary/``. The repository of today
keeps every year in ``BioCAS<year>/`` or ``releases/BioCAS<year>/`` (``test2022_json/inter_test_json/``
beside ``test2022_wav/``), and states most recordings again in ``Classification/`` and ``Detection/``.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from resp229k.sources.csv_table import read_csv, require
from resp229k.sources.recording import source_folder
from training.errors import DataError

# Folders by task state again what the years hold; those of detection mix the parts anew.
BY_TASK = ("Classification", "Detection", "Compression")
WITH_RECORD = ("train", "inter", "intra", "2022", "2023")  # parts that annotate the recording as a whole, too
NOBODY = ("", "-")  # the patient of several published rows


class Place(NamedTuple):
    """One recording's annotation, its audio (which may be absent), and its published part.

    ``part`` is ``train``, ``inter`` or ``intra`` (the two tests of 2022), or the year of a later test;
    None where the folder does not tell. ``disputed``: another copy of the annotation differs.
    """

    annotation: Path
    audio: Path
    part: str | None
    disputed: bool


def places(root: Path, folder: str, url: str) -> list[Place]:
    """Every annotated recording once, sorted by name.

    Raises:
        DataError: no such folder, or no annotation in it.
    """
    copies: dict[str, list[Path]] = defaultdict(list)
    for file in source_folder(root, folder, "**/*_json/**/*.json", url):
        if file not in copies[file.stem]:
            copies[file.stem].append(file)
    audio = {path.stem: path for path in sorted(root.glob("**/*_wav/**/*.wav"), reverse=True)}
    found = []
    for name, files in sorted(copies.items()):
        first, *others = sorted(files, key=lambda file: _rank(file.relative_to(root)))
        beside = _beside(root, first)
        found.append(
            Place(
                annotation=first,
                audio=beside if beside.is_file() else audio.get(name, beside),
                part=_part(first.relative_to(root)),
                disputed=any(_events(file) != _events(first) for file in others),
            )
        )
    return found


def read_annotation(file: Path, part: str | None) -> tuple[str | None, list[Any]]:
    """The annotation of the recording (None in the years from 2024 on), and those of its events.

    Raises:
        ValueError, KeyError, TypeError: it does not have the published form.
    """
    annotation = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(annotation, dict):
        raise TypeError("an annotation is a JSON object")
    record = annotation["record_annotation"] if part in WITH_RECORD else annotation.get("record_annotation")
    events = annotation["event_annotation"]
    if not (record is None or isinstance(record, str)) or not isinstance(events, list):
        raise TypeError("record_annotation must be a text and event_annotation a list")
    return record, events


def read_summary(root: Path) -> dict[str, dict[str, str]]:
    """Patient number → its summary row; ``disease`` as refined by the 2024 challenge where it was.

    ``disease_file`` names the table, relative to ``root``, that says so. An absent summary gives no
    rows: its patients then have no disease.

    Raises:
        DataError: a summary is no CSV table with the published columns, a row of it is short, long or
            cut, or names a patient for the second time.
    """
    rows: dict[str, dict[str, str]] = {}
    files = sorted(root.glob("Patient Summary/*.csv"), key=lambda file: ("'24" in file.name, file.name))
    for file in files:
        for patient, row in _patients(file).items():
            merged = rows.setdefault(patient, {})
            known = merged.get("disease", "")
            merged.update(row)
            merged["disease"] = row.get("disease_2024") or row.get("disease") or known
            if row.get("disease_2024") or row.get("disease"):
                merged["disease_file"] = file.relative_to(root).as_posix()
    return rows


def _patients(file: Path) -> dict[str, dict[str, str]]:
    # Two of the published tables do not end their last line: a cut one shows in its fields.
    columns, table = read_csv(file, ("patient_num",), ended=False)
    refined = "disease_2024" in columns
    require(file, columns, ("disease_2022",) if refined else ("disease", "age", "gender"))
    rows: dict[str, dict[str, str]] = {}
    for line, row in table:
        patient = row["patient_num"].strip()
        if not row[columns[-1]].strip():
            raise DataError(f"line {line}: {columns[-1]} is empty", path=file, cure="download it again")
        if patient in rows:
            raise DataError(f"line {line}: patient {patient} stands twice", path=file)
        if patient not in NOBODY:
            rows[patient] = row
    return rows


def _rank(file: Path) -> tuple[int, int, str]:
    task = BY_TASK.index(file.parts[0]) + 1 if file.parts[0] in BY_TASK else 0
    return task, len(file.parts), file.as_posix()


def _part(file: Path) -> str | None:
    if file.parts[0] in BY_TASK[1:]:
        return None
    folder = file.parent.as_posix()
    found = re.search(r"train|inter|intra", folder) or re.search(r"20\d\d", folder)
    return found[0] if found else None


def _beside(root: Path, annotation: Path) -> Path:
    """``<folder>_wav/<name>.wav`` beside ``<folder>_json/…/<name>.json``."""
    for parent in annotation.relative_to(root).parents[::-1]:
        if parent.name.endswith("_json"):
            return root / parent.with_name(parent.name[: -len("json")] + "wav") / f"{annotation.stem}.wav"
    raise ValueError(f"{annotation} lies in no *_json folder")


def _events(file: Path) -> object:
    """What an annotation says of the events, for comparison; None where it cannot be read."""
    try:
        return [
            [str(event[key]) for key in sorted(event)]
            for event in json.loads(file.read_text(encoding="utf-8"))["event_annotation"]
        ]
    except (ValueError, KeyError, TypeError):
        return None
