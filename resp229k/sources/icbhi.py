"""ICBHI 2017: adult and paediatric lung sounds, Coimbra and Thessaloniki (CC0 / free for research).

Layout as published: ``<any folder>/<recording>.txt`` and ``.wav``, where a text line is ``start s,
end s, crackle 0/1, wheeze 0/1`` of a breathing cycle; diagnosis and demographics beside. A file name
is ``<patient>_<index>_<place>_<sc|mc>_<device>``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resp229k.clip import EventKind, Metadata
from resp229k.sources.icbhi_tables import DIAGNOSES, read_demographics, read_diagnosis, read_halves
from resp229k.sources.recording import Labels, Recording, Stretch, flat, source_folder, unknown_label
from training.errors import DataError

SOURCE = "icbhi"
FOLDER = "ICBHI_2017"
URL = "https://bhichallenge.med.auth.gr"
LICENCE = "CC0 / free for research"
NAME = re.compile(r"(?P<patient>[0-9]+)_(?P<index>\w+)_(?P<site>[A-Z][a-z])_(?P<mode>sc|mc)_(?P<device>\w+)")
NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?(e-?[0-9]+)?")
SITES = {
    "Tc": "trachea",
    "Al": "left anterior chest",
    "Ar": "right anterior chest",
    "Pl": "left posterior chest",
    "Pr": "right posterior chest",
    "Ll": "left lateral chest",
    "Lr": "right lateral chest",
}


def discover(root: Path) -> Iterator[Recording]:
    """Every annotated recording, sorted by file name; its stretches are breathing cycles.

    Args:
        root: the folder that holds the patients' tables and the folder of recordings.

    Raises:
        DataError: no such folder, no annotation in it, or a broken patient table.
    """
    files = source_folder(root, FOLDER, "**/*_*_*_*_*.txt", URL)
    # The publisher's own text files match the pattern too, their names do not match the format.
    named = [(file, match) for file in files if (match := NAME.fullmatch(file.stem))]
    if not named:
        raise DataError(
            "holds no cycle annotation", path=root, cure=f"unpack the published corpus ({URL}) there"
        )
    diagnosis = read_diagnosis(root)
    people = read_demographics(root)
    halves = read_halves(root)
    names = Counter(file.stem for file, _ in named)
    for file, match in named:
        recording = _recording(root, file, match, diagnosis, people, halves)
        twins = {"fault": "several files of this name"} if names[file.stem] > 1 else {}
        yield recording.model_copy(update=twins)


def _recording(
    root: Path,
    file: Path,
    name: re.Match[str],
    diagnosis: dict[str, str],
    people: dict[str, dict[str, Any]],
    halves: dict[str, str],
) -> Recording:
    patient = name["patient"]
    values: dict[str, Any] = {
        "source": SOURCE,
        "recording_id": f"{SOURCE}:{file.stem}",
        "subject_id": f"{SOURCE}:{patient}",
        "path": file.with_suffix(".wav"),
        "part": halves.get(file.stem),
        "device": name["device"],
        "manoeuvre": "auscultation",
    }
    raw = diagnosis.get(patient)
    labels = Labels(SOURCE)
    if raw is not None and not labels.add("disease16", raw):
        table = next(root / table for table in DIAGNOSES if (root / table).is_file())
        values["unknown"] = (unknown_label(root, table, f"diagnosis of patient {patient}", raw),)
    try:
        cycles = [cycle(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        if not cycles:
            raise ValueError("no breathing cycle is annotated")
        metadata = Metadata(site=SITES.get(name["site"]), diagnosis=raw, **people.get(patient, {}))
    except ValueError as error:
        return Recording(**values, fault=flat(error))
    notes = [] if patient in people else ["patient is not in the demographics"]
    if halves and file.stem not in halves:
        notes.append("recording is not in the official split")
    if metadata.site is None:
        notes.append("auscultation site in the file name is unknown")
    if _disputed(cycles):
        notes.append("two cycles of the same times have other labels")
    return Recording(
        **values, stretches=tuple(cycles), labels=labels.single, metadata=metadata, notes=tuple(notes)
    )


def _disputed(cycles: list[Stretch]) -> bool:
    labels = defaultdict(set)
    for cycle in cycles:
        labels[cycle.start, cycle.end].add(cycle.kinds)
    return any(len(kinds) > 1 for kinds in labels.values())


def cycle(line: str) -> Stretch:
    """A breathing cycle, of a line of an annotation file.

    Raises:
        ValueError: the line does not have the published form.
    """
    fields = line.split()
    if len(fields) != 4:
        raise ValueError(f"a cycle has start, end, crackle and wheeze: {line.strip()!r}")
    start, end, crackle, wheeze = fields
    if {crackle, wheeze} - {"0", "1"}:
        raise ValueError(f"crackle and wheeze must be 0 or 1: {line.strip()!r}")
    if not (NUMBER.fullmatch(start) and NUMBER.fullmatch(end)):
        raise ValueError(f"start and end must be seconds: {line.strip()!r}")
    kinds: list[EventKind] = []
    if crackle == "1":
        kinds.append("crackle")
    if wheeze == "1":
        kinds.append("wheeze")
    return Stretch(start=float(start), end=float(end), kinds=tuple(kinds))
