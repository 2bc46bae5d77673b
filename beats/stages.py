"""The stages of the encoder's pre-training: event tags; or random units, masked prediction, distilled units.

Masked prediction is published (BEATs, section 3); the event tags are ours: at sizes that train on a CPU,
predicting units of patches learns the recorder rather than the sound. The tags of simulated clips share
the simulator's grammar with simulated test sets, so figures on those flatter the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from beats.config import (
    MaskedStageConfig,
    QuantizerConfig,
    StageConfig,
    TaggedStageConfig,
    TokenizerStageConfig,
    beats_config,
)
from beats.distil import UnitDistiller
from beats.encoder import BeatsEncoder
from beats.frames import FrameClips, FrameRows, held_out
from beats.label import UnitCollate, label_units, usage
from beats.masked import MaskedPredictor
from beats.random_units import RandomUnits
from beats.tagger import EventTagger, mean_clip_auc, positive_weight, tag_scores
from beats.tags import TagCollate, TaggedClips, clip_targets
from beats.tokenizer import BeatsTokenizer, Quantizer
from resp229k.clip import Clip
from training.files import digest
from training.fit import fit
from training.model import Model, Provenance, weights_digest
from training.seeds import derive, seed_all


class Trained(NamedTuple):
    """What a stage made, and what it reaches on the clips held out."""

    network: Any
    report: dict[str, Any]


def train_tagged(
    data: TaggedClips, config: TaggedStageConfig, work: Path, *, resume: bool = False
) -> Trained:
    """Train an encoder to name events, per column and per clip; select on the mean area under the ROC.

    Args:
        data: clips and their tags.
        config: sizes, steps, seed.
        work: folder for checkpoints.
        resume: go on from the last one.

    Raises:
        DataError: nothing is left for training or for validation.
    """
    train, valid = held_out(data.clips, config.held_out, config.seed)
    targets = clip_targets(torch.from_numpy(data.tags[train]))
    seed_all(derive(config.seed, "encoder", config.stem))
    encoder = BeatsEncoder(beats_config(config.size, config.stem))
    tagger = EventTagger(encoder, positive_weight(targets))
    collate = TagCollate(config.shortest_columns, config.augment)
    report = _fit(
        tagger,
        data,
        data.tags,
        config,
        work,
        resume,
        collate=collate,
        metric=mean_clip_auc,
        weights=_balance(targets.numpy(), [data.corpus[row] for row in train]),
        description=f"tagged encoder ({config.stem} stem)",
    )
    shown = FrameRows(data, valid, data.tags, train=False)
    report |= {"stem": config.stem}
    report |= tag_scores(tagger, shown, collate, config.fit.batch_size)
    encoder.provenance = _provenance("train tagged", config, data.clips)
    return Trained(encoder.eval(), report)


def train_masked(
    data: FrameClips,
    config: MaskedStageConfig,
    work: Path,
    *,
    tokenizer: BeatsTokenizer | None = None,
    resume: bool = False,
) -> Trained:
    """Train an encoder to predict the units of hidden tokens (BEATs, section 3.3).

    Args:
        data: clips.
        config: sizes, steps, seed.
        work: folder for checkpoints.
        tokenizer: whose units are predicted; without one those of a random projection.
        resume: go on from the last checkpoint.

    Raises:
        DataError: nothing is left for training or for validation.
    """
    seed_all(derive(config.seed, "units"))
    source = RandomUnits(config.random) if tokenizer is None else tokenizer
    taught = [] if tokenizer is None else [tokenizer.encoder, tokenizer.quantizer]
    codebook = config.random.codebook if tokenizer is None else tokenizer.quantizer.config.codebook
    units = label_units(source, data)
    seed_all(derive(config.seed, "encoder", config.stem))
    encoder = BeatsEncoder(beats_config(config.size, config.stem))
    report = _fit(
        MaskedPredictor(encoder, codebook, config.masked),
        data,
        units,
        config,
        work,
        resume,
        built_on=taught,
        collate=UnitCollate(config.shortest_columns, config.augment),
        description=f"masked encoder ({config.stem} stem)",
    )
    report |= {"stem": config.stem, "units": usage(units, codebook)}
    encoder.provenance = _provenance("train masked", config, data.clips, taught)
    return Trained(encoder.eval(), report)


def train_tokenizer(
    data: FrameClips,
    teacher: BeatsEncoder,
    config: TokenizerStageConfig,
    work: Path,
    *,
    resume: bool = False,
) -> Trained:
    """Distil a tokenizer from an encoder (BEATs, section 3.2); select on the loss.

    Args:
        data: clips.
        teacher: whose features the units are to tell.
        config: sizes, steps, seed.
        work: folder for checkpoints.
        resume: go on from the last one.

    Raises:
        DataError: nothing is left for training or for validation.
    """
    seed_all(derive(config.seed, "tokenizer", config.stem))
    encoder = BeatsEncoder(teacher.config if config.warm else beats_config(config.size, config.stem))
    if config.warm:
        encoder.load_state_dict(teacher.state_dict())
    quantizer = Quantizer(
        QuantizerConfig(codebook=config.codebook, dim=encoder.width, code_dim=config.code_dim)
    )
    tokenizer = BeatsTokenizer(encoder, quantizer)
    report = _fit(
        UnitDistiller(teacher, tokenizer, config.distil),
        data,
        None,
        config,
        work,
        resume,
        built_on=[teacher],
        collate=UnitCollate(config.shortest_columns, config.augment),
        description=f"tokenizer ({encoder.config.stem} stem)",
    )
    found = usage(label_units(tokenizer, data), config.codebook)
    report |= {"stem": encoder.config.stem, "units": found}
    for part in (encoder, quantizer):
        part.provenance = _provenance("train tokenizer", config, data.clips, [teacher])
    return Trained(tokenizer.eval(), report)


def _fit(
    model: nn.Module,
    data: FrameClips,
    targets: np.ndarray | None,
    config: StageConfig,
    work: Path,
    resume: bool,
    built_on: Sequence[Model] = (),
    weights: np.ndarray | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Train on what is not held out, and report steps, minutes, clips and the best metric.

    Without weights every corpus is drawn from equally often.
    """
    train, valid = held_out(data.clips, config.held_out, config.seed)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    start = time.monotonic()
    result = fit(
        model,
        FrameRows(data, train, targets, train=True),
        weights=_evenly([data.corpus[row] for row in train]) if weights is None else weights,
        config=config.fit.model_copy(update={"seed": derive(config.seed, "encoder fit")}),
        out=work,
        valid=FrameRows(data, valid, targets, train=False),
        resume=resume,
        data_key=digest(
            [
                config.model_dump(mode="json"),
                [clip.clip_id for clip in data.clips],
                [weights_digest(network) for network in built_on],
            ]
        ),
        **how,
    )
    return {
        "parameters": parameters,
        "steps": result.steps,
        "best_step": result.best_step,
        "best_metric": result.best_metric,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "clips": {"train": len(train), "held_out": len(valid)},
        "history": result.history,
    }


def _provenance(
    command: str, config: StageConfig, clips: Sequence[Clip], taught: Sequence[Model] = ()
) -> Provenance:
    """Whom a network has heard: its own clips, and what those who taught it have heard.

    Held-out clips choose the weights, so they count.
    """
    subjects = {clip.subject_id for clip in clips}
    notes = {}
    for model in taught:
        subjects |= set(model.provenance.subjects)
        notes[type(model).__name__] = {"digest": weights_digest(model), **model.provenance.notes}
    return Provenance.of(
        subjects, command=command, seed=config.seed, notes={"taught_by": notes} if notes else {}
    )


def _evenly(corpora: Sequence[str]) -> np.ndarray:
    """Sampling weights: every corpus equally often."""
    return np.array([1 / corpora.count(name) for name in corpora])


def _balance(targets: np.ndarray, corpora: Sequence[str]) -> np.ndarray:
    """Sampling weights: every corpus equally often, and within it clips of rare tags more often."""
    patterns = [
        f"{corpus} {np.nan_to_num(row, nan=2).tobytes().hex()}"
        for corpus, row in zip(corpora, targets, strict=True)
    ]
    weights = np.zeros(len(corpora))
    for corpus in set(corpora):
        rows = [i for i, name in enumerate(corpora) if name == corpus]
        sizes = {p: patterns.count(p) for p in {patterns[i] for i in rows}}
        part = np.array([sizes[patterns[i]] ** -0.5 for i in rows])
        weights[rows] = part / part.sum()
    return weights
