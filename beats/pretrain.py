"""The weights of the audio representation: an encoder that knows events, and its units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beats.config import BeatsPretrainConfig
from beats.encoder import BeatsEncoder
from beats.label import fit_kmeans
from beats.stages import train_tagged
from beats.tags import TaggedClips
from resp229k.corpus import Corpus
from training.files import new_folder, write_json


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
        tokenizer, usage = fit_kmeans(encoder, data, config.units, config.seed)
        tokenizer.save_pretrained(temporary / "tokenizer", half=True)
        report["units"] = usage
        write_json(temporary / "pretrain.json", report)
    return report
