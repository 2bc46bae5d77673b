"""Write synthetic clips: tagged WAV files, a provenance JSON beside each, and a corpus of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from generator.request import Generated
from resp229k.audio import COMMENT, RATE, write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.errors import DataError
from training.files import digest, write_json

SOURCE = "synthetic"


def provenance(
    clip: Generated, *, backend: str, weights: Mapping[str, str], subjects_hash: str
) -> dict[str, Any]:
    """Everything that is needed to say where a synthetic clip comes from. Holds no path."""
    request = clip.request
    return {
        "synthetic": True,
        "note": COMMENT,
        "backend": backend,
        "task": request.task,
        "label": request.label,
        "reference": request.reference_id,
        "reference_subject": request.subject_id,
        "seconds": clip.wave.size / RATE,
        "seed": clip.seed,
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
) -> list[Path]:
    """Write N clips as N distinct WAV files, each with ``<name>.json`` beside it.

    Args:
        generated: the clips.
        folder: made if missing.
        backend: what made them.
        weights: SHA-256 per network.
        subjects_hash: of the subjects that the networks were trained on.

    Returns:
        the WAV paths, in order.

    Raises:
        DataError: two clips share their whole provenance, so that one would overwrite the other.
    """
    records = [
        provenance(c, backend=backend, weights=weights, subjects_hash=subjects_hash) for c in generated
    ]
    names = [clip_name(record) for record in records]
    if len(set(names)) < len(names):
        raise DataError(
            f"{len(names) - len(set(names))} of {len(names)} clips repeat another's request and seed",
            path=folder,
            cure="give every clip a seed of its own",
        )
    paths = []
    for clip, record, name in zip(generated, records, names, strict=True):
        path = folder / f"{name}.wav"
        write_wav(path, clip.wave, synthetic=True)
        write_json(folder / f"{name}.json", record)
        paths.append(path)
    return paths


def write_corpus(
    generated: Sequence[Generated],
    folder: Path,
    *,
    backend: str = "neural",
    weights: Mapping[str, str],
    subjects_hash: str,
) -> Corpus:
    """Write clips under ``folder/audio`` and a manifest of them; arguments as in :func:`write_clips`.

    Every clip is in train, marked synthetic, and carries its reference's subject.
    """
    paths = write_clips(
        generated, folder / "audio", backend=backend, weights=weights, subjects_hash=subjects_hash
    )
    corpus = Corpus(
        folder,
        [
            Clip(
                clip_id=f"{SOURCE}:{path.stem}",
                recording_id=f"{SOURCE}:{path.stem}",
                subject_id=clip.request.subject_id,
                source=SOURCE,
                split="train",
                path=f"audio/{path.name}",
                start=0.0,
                end=clip.wave.size / RATE,
                sample_rate=RATE,
                labels={clip.request.task: clip.request.label},
                synthetic=True,
            )
            for clip, path in zip(generated, paths, strict=True)
        ],
    )
    corpus.save()
    return corpus
