"""SPRSound: paediatric lung sounds, Shanghai Children's Medical Center (CC BY 4.0).

A file name is ``<patient>_<age>_<sex: 0 male, 1 female>_<place p1..p8>_<number>``; later recordings may
leave the patient out. Layouts and patient tables: :mod:`resp229k.sources.sprsound_files`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resp229k.clip import Metadata
from resp229k.quarantine import Finding
from resp229k.sources.recording import Labels, Recording, Stretch, flat, number, unknown_label
from resp229k.sources.sprsound_files import Place, places, read_annotation, read_summary
from resp229k.taxonomy import classes, sounds

SOURCE = "sprsound"
FOLDER = "SPRSound"
URL = "https://github.com/SJTU-YONGFU-RESEARCH-GRP/SPRSound"
LICENCE = "CC BY 4.0"
DEVICE = "Yunting II"  # the one stethoscope of the whole collection
NAMELESS = "nameless"  # the subject of recordings that name no child: nobody knows who is whom among them
NAME = re.compile(
    r"(?P<patient>\d*)_(?P<age>\d+(\.\d+)?)_(?P<sex>[01])_(?P<site>p\d)_(?P<number>\d+)", re.ASCII
)
UNSAFE = re.compile(r"[^\w.+-]")  # what an id does not hold
MILLISECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
SITES = {
    "p1": "left posterior chest",
    "p2": "left lateral chest",
    "p3": "right posterior chest",
    "p4": "right lateral chest",
}  # of p5 to p8, used from 2024 on, only the names are published


def discover(root: Path) -> Iterator[Recording]:
    """Every annotated recording once, sorted by file name, from any of the published layouts.

    Args:
        root: the ``SPRSound`` folder.

    Raises:
        DataError: no such folder, no annotation in it, or a patient summary that cannot be read.
    """
    found = places(root, FOLDER, URL)
    summary = read_summary(root)
    for place in found:
        yield _recording(root, place, summary)


def _recording(root: Path, place: Place, summary: dict[str, dict[str, str]]) -> Recording:
    name, file = place.annotation.stem, place.annotation
    fields = NAME.fullmatch(name)
    patient = fields["patient"] if fields else ""
    values: dict[str, Any] = {
        "source": SOURCE,
        "recording_id": f"{SOURCE}:{UNSAFE.sub('-', name)}",
        "subject_id": f"{SOURCE}:{patient or NAMELESS}",
        "path": place.audio,
        "part": place.part,
        "device": DEVICE,
        "manoeuvre": "auscultation",
    }
    row = summary.get(patient, {}) if patient else {}
    try:
        if fields is None:
            raise ValueError("the name is not <patient>_<age>_<sex>_<place>_<number>")
        record, events = read_annotation(file, place.part)
        stretches = tuple(stretch(event) for event in events)
        metadata = _metadata(fields, row, record)
        notes = _notes(metadata, row, place, patient)
        if (record or "").strip().lower() == "normal" and any(stretch.kinds for stretch in stretches):
            notes += ("its annotation is normal, that of an event is not",)
    except (ValueError, KeyError, TypeError) as error:  # a JSON error is a ValueError
        return Recording(**values, fault=flat(error))
    unknown = [
        unknown_label(root, file, "event", str(event["type"]), f"{SOURCE}-{name}-{index:03d}")
        for index, (event, stretch) in enumerate(zip(events, stretches, strict=True))
        if not stretch.known
    ]
    labels, more = _labels(root, file, record, row)
    return Recording(
        **values,
        stretches=stretches,
        labels=labels,
        metadata=metadata,
        notes=notes,
        unknown=(*unknown, *more),
    )


def _labels(
    root: Path, file: Path, record: str | None, row: dict[str, str]
) -> tuple[dict[str, str], list[Finding]]:
    """Labels of the whole recording, and its raw labels that are unknown."""
    labels = Labels(SOURCE)
    unknown: list[Finding] = []
    if record is not None and not labels.add("spr_record", record):
        unknown.append(unknown_label(root, file, "record annotation", record))
    if (raw := row.get("disease")) and not labels.add("disease16", raw):
        patient = file.stem.split("_")[0]
        table = root / row["disease_file"]
        unknown.append(unknown_label(root, table, f"diagnosis of patient {patient}", raw))
    return labels.single, unknown


def stretch(event: dict[str, Any]) -> Stretch:
    """An event, of its annotation.

    Raises:
        ValueError, KeyError, TypeError: it does not have the published form.
    """
    for key in ("start", "end"):
        if not MILLISECONDS.fullmatch(str(event[key])):
            raise ValueError(f"{key} must be milliseconds, not {event[key]!r}")
    start, end, raw = float(event["start"]) / 1000, float(event["end"]) / 1000, str(event["type"])
    kinds, found = sounds(SOURCE, raw), classes("spr_event", SOURCE, raw)
    if kinds is None or not found:
        return Stretch(start=start, end=end, known=False)
    return Stretch(start=start, end=end, kinds=kinds, labels={"spr_event": found[0]})


def _metadata(fields: re.Match[str], row: dict[str, str], record: str | None) -> Metadata:
    # The name's age is that of the recording's day, the summary's that of the admission.
    return Metadata.model_validate(
        {
            "age_years": number(fields["age"]),
            "sex": {"0": "male", "1": "female"}[fields["sex"]],
            "site": SITES.get(fields["site"]),
            "diagnosis": row.get("disease") or None,
            "findings": record,
        }
    )


def _notes(metadata: Metadata, row: dict[str, str], place: Place, patient: str) -> tuple[str, ...]:
    sex = {"M": "male", "F": "female"}.get((row.get("gender") or "").strip())
    age = number(row.get("age"))
    notes = {
        "age in the file name differs from the summary": age is not None and age != metadata.age_years,
        "sex in the file name differs from the summary": sex is not None and sex != metadata.sex,
        "patient is not in the summary": bool(patient) and not row,
        "the file name names no patient": not patient,
        "auscultation site in the file name is unknown": metadata.site is None,
        "another copy of its annotation differs": place.disputed,
    }
    return tuple(note for note, holds in notes.items() if holds)
