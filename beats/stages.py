"""The stages of the encoder's pre-training: event tags; or random units, masked prediction, distilled units.

Masked prediction is published (BEATs, section 3); the event tags are ours: at sizes that train on a CPU,
predicting units of patches learns the recorder rather than the sound. The tags of simulated clips share
the simulator's grammar with simulated test sets, so figures on those flatter the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from beats.cache import weights_digest
from beats.config import (
    PATCH,
    MaskedStageConfig,
    QuantizerConfig,
    StageConfig,
    TaggedStageConfig,
    TokenizerStageConfig,
    UnitFitConfig,
    UnitsConfig,
    beats_config,
)
from beats.distil import UnitDistiller
from beats.encoder import BeatsEncoder
from beats.frames import FrameClips, FrameRows, Row, features_of, held_out, joined, raw_frames
from beats.masked import MaskedPredictor
from beats.random_units import RandomUnits
from beats.tagger import EventTagger, mean_clip_auc, positive_weight, tag_scores
from beats.tags import TagCollate, TaggedClips, clip_targets
from beats.tokenizer import BeatsTokenizer, Quantizer
from beats.units import UnitTokenizer, fit_units, unit_usage
from resp229k.clip import Clip
from training.files import digest
from training.fit import fit
from training.model import Model, Provenance
from training.seeds import derive, seed_all

ENCODE = 32  # clips at a time


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
    collate = TagCollate(config.shortest_columns)
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
        collate=UnitCollate(config.shortest_columns),
        description=f"masked encoder ({config.stem} stem)",
    )
    report["units"] = _usage(units, codebook)
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
    encoder = BeatsEncoder(beats_config(config.size, config.stem))
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
        collate=UnitCollate(config.shortest_columns),
        description=f"tokenizer ({config.stem} stem)",
    )
    report["units"] = _usage(label_units(tokenizer, data), config.codebook)
    for part in (encoder, quantizer):
        part.provenance = _provenance("train tokenizer", config, data.clips, [teacher])
    return Trained(tokenizer.eval(), report)


def fit_kmeans(
    encoder: BeatsEncoder, data: FrameClips, config: UnitFitConfig, seed: int
) -> tuple[UnitTokenizer, dict[str, Any]]:
    """Fit units to an encoder's features of at most ``config.clips`` clips; also their usage there."""
    rng = np.random.default_rng(derive(seed, "units"))
    rows = sorted(rng.permutation(len(data))[: config.clips].tolist())
    features = features_of(encoder, data, rows)
    tokenizer = fit_units(features, UnitsConfig(codebook=config.codebook, dim=encoder.width), seed=seed)
    tokenizer.provenance = Provenance.of(
        [data.clips[row].subject_id for row in rows], command="train units", seed=seed
    )
    found = [tokenizer.units(torch.from_numpy(clip.astype(np.float32))).numpy() for clip in features]
    return tokenizer, _usage(found, config.codebook)


@torch.inference_mode()
def label_units(tokenizer: BeatsTokenizer | RandomUnits, data: FrameClips) -> np.ndarray:
    """Units ``(N, T, 8)`` int16 of all clips at full length: computed once, not in every step."""
    found = []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = tokenizer.to(device).eval()
    for first in range(0, len(data), ENCODE):
        frames = raw_frames([data[row] for row in range(first, min(first + ENCODE, len(data)))]).to(device)
        counts = torch.full((len(frames),), data.length, device=device)
        if isinstance(tokenizer, RandomUnits):
            units = tokenizer.units_of_frames(frames, counts)
        else:
            units = tokenizer.quantizer.units(tokenizer.encoder.encode_frames(frames, counts).features)
        found.append(units.to(torch.int16).cpu().numpy())
    tokenizer.to("cpu")
    return np.concatenate(found)


class UnitCollate:
    """Joins rows; in training to one random length, each clip from a random column on."""

    def __init__(self, shortest: int):
        self.shortest = shortest  # columns

    def __call__(self, rows: list[Row]) -> dict[str, Tensor]:
        """Keyword arguments of forward: frames, counts, and units where rows have them."""
        columns = len(rows[0][0]) // PATCH
        starts = [0] * len(rows)
        if rows[0][2]:
            whole = columns
            columns = int(torch.randint(min(self.shortest, whole), whole + 1, ()))
            starts = torch.randint(0, whole - columns + 1, (len(rows),)).tolist()
        size = PATCH * columns
        parts = [row[0][PATCH * s : PATCH * s + size] for row, s in zip(rows, starts, strict=True)]
        batch = {"frames": raw_frames(parts), "counts": torch.full((len(rows),), size)}
        if rows[0][1] is not None:
            units = [u[s : s + columns] for u, s in zip(joined(rows), starts, strict=True)]
            batch["units"] = torch.stack(units).long()
        return batch


def _fit(
    model: nn.Module,
    data: FrameClips,
    targets: np.ndarray | None,
    config: StageConfig,
    work: Path,
    resume: bool,
    built_on: Sequence[Model] = (),
    **how: Any,
) -> dict[str, Any]:
    """Train on what is not held out, and report steps, minutes, clips and the best metric."""
    train, valid = held_out(data.clips, config.held_out, config.seed)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    start = time.monotonic()
    result = fit(
        model,
        FrameRows(data, train, targets, train=True),
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
        "stem": config.stem,
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
    for model in taught:
        subjects |= set(model.provenance.subjects)
    return Provenance.of(subjects, command=command, seed=config.seed)


def _usage(units: Iterable[np.ndarray], codebook: int) -> dict[str, Any]:
    usage = unit_usage(units, codebook)
    return {"codebook": codebook, "perplexity": usage.perplexity, "dead": usage.dead}


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
