"""Write synthetic clips: tagged WAV files, each with a provenance JSON beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from generator.config import SampleConfig
from generator.request import Generated
from resp229k.audio import COMMENT, RATE, write_wav
from training.errors import DataError
from training.files import digest, dumps, read_json, write_json


def provenance(
    clip: Generated,
    *,
    backend: str,
    weights: Mapping[str, str],
    subjects_hash: str,
    sample: SampleConfig | None = None,
) -> dict[str, Any]:
    """Everything that is needed to say where a synthetic clip comes from. Holds no path.

    ``reference_sha256`` is of the reference's 16 kHz samples (little-endian float32): two recordings
    may share a name.
    """
    request = clip.request
    heard = np.ascontiguousarray(request.wave(), dtype="<f4")
    # A wish not made changes no name.
    asked = {} if request.events is None else {"events": request.events}
    if request.units is not None:
        asked["units_sha256"] = hashlib.sha256(
            np.ascontiguousarray(request.units, dtype="<i4").tobytes()
        ).hexdigest()
    return {
        "synthetic": True,
        "note": COMMENT,
        "backend": backend,
        "task": request.task,
        "label": request.label,
        **asked,
        "reference": request.reference_id,
        "reference_sha256": hashlib.sha256(heard.tobytes()).hexdigest(),
        "reference_subject": request.subject_id,
        "seconds": clip.wave.size / RATE,
        "seed": clip.seed,
        "sample": None if sample is None else sample.model_dump(mode="json"),
        "weights": dict(weights),
        "subjects_hash": subjects_hash,
    }


def clip_name(record: Mapping[str, Any]) -> str:
    """File stem of a clip: task, label, and a digest of its whole provenance.

    Made again with the same weights, a clip gets the same name; any difference gives another.
    """
    label = re.sub(r"[^a-z0-9]+", "-", str(record["label"]).lower()).strip("-")
    return f"{record['task']}-{label}-{digest(dict(record))[:12]}"


def write_clips(
    generated: Sequence[Generated],
    folder: Path,
    *,
    backend: str = "neural",
    weights: Mapping[str, str],
    subjects_hash: str,
    sample: SampleConfig | None = None,
) -> list[Path]:
    """Write N clips as N distinct WAV files, each with ``<name>.json`` beside it.

    Args:
        generated: the clips.
        folder: made if missing.
        backend: what made them.
        weights: SHA-256 per network.
        subjects_hash: of the subjects that the networks were trained on.
        sample: how the clips were drawn; none if the backend has no such settings.

    Returns:
        the WAV paths, in order.

    Raises:
        DataError: two clips share their whole provenance, so that one would overwrite the other, or
            a file of that name exists with another provenance. Nothing is written then.
    """
    records = [
        provenance(clip, backend=backend, weights=weights, subjects_hash=subjects_hash, sample=sample)
        for clip in generated
    ]
    names = [clip_name(record) for record in records]
    if len(set(names)) < len(names):
        raise DataError(
            f"{len(names) - len(set(names))} of {len(names)} clips repeat another's request and seed",
            path=folder,
            cure="give every clip a seed of its own",
        )
    paths = [folder / f"{name}.wav" for name in names]
    for path, record in zip(paths, records, strict=True):
        if path.exists() and not _recorded(path, record):
            raise DataError(
                "exists with another provenance, or with none",
                path=path,
                cure="write to another folder, or move this file and its JSON away",
            )
    for clip, record, path in zip(generated, records, paths, strict=True):
        # The record comes first: an interrupted run leaves no clip without one, and can be repeated.
        write_json(path.with_suffix(".json"), record)
        write_wav(path, clip.wave, synthetic=True)
    return paths


def _recorded(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether the JSON beside a WAV is this record, so that the WAV may be written again."""
    try:
        return bool(read_json(path.with_suffix(".json")) == json.loads(dumps(record)))
    except DataError:
        return False
