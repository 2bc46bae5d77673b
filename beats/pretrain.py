"""The weights of the audio representation: an encoder that knows events and its units, trained or given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import beats
from beats.config import BeatsPretrainConfig
from beats.encoder import BeatsEncoder
from beats.label import fit_kmeans, sample_features
from beats.stages import train_tagged
from beats.tags import TaggedClips
from beats.tokenizer import BeatsTokenizer
from resp229k.corpus import Corpus
from training.files import digest, file_digest, folder_digest, new_folder, write_json


def pretrain_beats(corpora: Sequence[Corpus], config: BeatsPretrainConfig, out: Path) -> dict[str, Any]:
    """Train an encoder on event tags, fit units to its features, write ``out``.

    ``out`` holds ``encoder/``, ``tokenizer/`` (both fp16) and ``pretrain.json``, the report returned.

    Raises:
        DataError: too few clips.
        AudioError: a recording cannot be used.
    """
    with new_folder(out) as temporary:
        data = TaggedClips(corpora, config.seconds, config.memory_gb)
        encoder, report = train_tagged(data, config, temporary / "fit")
        # Units are fitted to what the saved weights give: half precision.
        encoder.save_pretrained(temporary / "encoder", half=True)
        encoder = BeatsEncoder.from_pretrained(temporary / "encoder")
        tokenizer, usage = fit_kmeans(
            sample_features(encoder, data, config.units.clips, config.seed),
            config.units.codebook,
            config.seed,
        )
        tokenizer.save_pretrained(temporary / "tokenizer", half=True)
        report["units"] = usage
        write_json(temporary / "pretrain.json", report)
    return report


class GivenBeats(NamedTuple):
    """Finished weights: the name of their file or folder, a SHA-256 of what is in it, and the network."""

    name: str
    sha256: str
    tokenizer: BeatsTokenizer

    @property
    def codebook(self) -> int:
        """How many units it has."""
        return self.tokenizer.quantizer.config.codebook


def read_given(source: str) -> GivenBeats:
    """Read encoder and units by their name in a config, as :func:`beats.find` takes it.

    Raises:
        CheckpointError: missing, damaged, or without units.
    """
    path = beats.find(source)
    tokenizer = beats.load_tokenizer(path)
    if path.is_file():
        sha256 = file_digest(path)
    else:
        sha256 = digest([folder_digest(path / part) for part in ("encoder", "tokenizer")])
    return GivenBeats(Path(source).name, sha256, tokenizer)


def write_given(given: GivenBeats, out: Path) -> dict[str, Any]:
    """Write ``out`` as :func:`pretrain_beats` does; the subjects stay those of the given weights."""
    encoder = given.tokenizer.encoder
    report = {
        "weights": {"name": given.name, "sha256": given.sha256},
        "stem": encoder.config.stem,
        "parameters": sum(p.numel() for p in given.tokenizer.parameters()),
        "units": {"codebook": given.codebook},
    }
    with new_folder(out) as temporary:
        given.tokenizer.save_pretrained(temporary, half=True)
        write_json(temporary / "pretrain.json", report)
    return report
