"""Pre-training of the encoder on event tags, for both stems at equal steps, and of the units.

Supervised, unlike the published masked prediction: at sizes that train on a CPU, predicting units of
patches learns the recorder rather than the sound. The tags of simulated clips share the simulator's
grammar with simulated test sets, so figures on those flatter the encoder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from beats.config import BeatsPretrainConfig, UnitsConfig, beats_config
from beats.encode import encode_waves
from beats.encoder import BeatsEncoder
from beats.tagger import EventTagger, mean_clip_auc, positive_weight, tag_auc
from beats.tags import TagCollate, TagDataset, TaggedClips, clip_targets, held_out, load_tagged
from beats.units import UnitTokenizer, fit_units, unit_usage
from resp229k.audio import Preprocess
from resp229k.corpus import Corpus
from training.errors import DataError
from training.files import new_folder, write_json
from training.fit import fit, validation
from training.model import Provenance
from training.progress import console
from training.seeds import derive, seed_all


class Pretrained(NamedTuple):
    """An encoder and what it reaches on held-out sources and subjects."""

    encoder: BeatsEncoder
    report: dict[str, Any]


def pretrain_encoder(data: TaggedClips, stem: str, config: BeatsPretrainConfig, work: Path) -> Pretrained:
    """Train one encoder on event tags.

    Args:
        data: of :func:`load_tagged`.
        stem: ``patch`` or ``conv``.
        config: sizes, steps, seed.
        work: folder for checkpoints.

    Raises:
        DataError: nothing is left for training or for validation.
    """
    kept = held_out(data.clips, config.held_out, config.seed)
    rows = np.flatnonzero(~kept), np.flatnonzero(kept)
    if not len(rows[0]) or not len(rows[1]):
        raise DataError(
            f"{len(data)} clips leave {len(rows[0])} for training and {len(rows[1])} for validation",
            cure="give more sources or subjects, or change held_out",
        )
    targets = clip_targets(torch.from_numpy(data.tags[rows[0]]))
    seed_all(derive(config.seed, "encoder", stem))
    encoder = BeatsEncoder(beats_config(config.size, stem))  # type: ignore[arg-type]
    tagger = EventTagger(encoder, positive_weight(targets))
    train = TagDataset(data, rows[0], train=True)
    valid = TagDataset(data, rows[1], train=False)
    collate = TagCollate(config.shortest_columns)
    start = time.monotonic()
    result = fit(
        tagger,
        train,
        collate=collate,
        config=config.fit.model_copy(update={"seed": derive(config.seed, "encoder fit")}),
        out=work / f"fit-{stem}",
        valid=valid,
        metric=mean_clip_auc,
        weights=_balance(targets.numpy(), [data.corpus[row] for row in rows[0]]),
        description=f"encoder ({stem} stem)",
    )
    report = {
        "stem": stem,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "steps": result.steps,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "clips": {"train": len(rows[0]), "held_out": len(rows[1])},
        **_score(tagger, valid, collate, config.fit.batch_size),
    }
    encoder.provenance = Provenance.of(
        # Held-out clips choose the weights, so they count as seen.
        [clip.subject_id for clip in data.clips],
        command="pretrain beats",
        seed=config.seed,
    )
    return Pretrained(encoder.eval(), report)


def pretrain_beats(corpora: Sequence[Corpus], config: BeatsPretrainConfig, out: Path) -> dict[str, Any]:
    """Train an encoder per stem, keep the better by held-out event AUC, fit units, write ``out``.

    ``out`` holds ``encoder/``, ``tokenizer/`` (both fp16) and ``pretrain.json``, the report returned.

    Raises:
        DataError: too few clips.
        AudioError: a recording cannot be used.
    """
    with new_folder(out) as temporary:
        data = load_tagged(corpora, config.seconds)
        trained = [pretrain_encoder(data, stem, config, temporary) for stem in config.stems]
        for _, report in trained:
            console.print(f"{report['stem']} stem: held-out event AUC {report['event_auc']:.3f}")
        encoder, chosen = max(trained, key=lambda found: found.report["event_auc"])
        # Units are fitted to what the saved weights give: half precision.
        encoder.save_pretrained(temporary / "encoder", half=True)
        encoder = BeatsEncoder.from_pretrained(temporary / "encoder")
        tokenizer, usage = units_of(encoder, corpora, config)
        tokenizer.save_pretrained(temporary / "tokenizer", half=True)
        report = {
            "chosen": chosen["stem"],
            "stems": {found["stem"]: found for _, found in trained},
            "units": usage,
        }
        write_json(temporary / "pretrain.json", report)
    return report


def units_of(
    encoder: BeatsEncoder, corpora: Sequence[Corpus], config: BeatsPretrainConfig
) -> tuple[UnitTokenizer, dict[str, Any]]:
    """Fit units on at most ``config.unit_clips`` clips of some corpora; also their usage."""
    pairs = [(corpus, clip) for corpus in corpora for clip in corpus.clips]
    rng = np.random.default_rng(derive(config.seed, "units"))
    chosen = sorted(rng.permutation(len(pairs))[: config.unit_clips])
    how = Preprocess(seconds=config.seconds, fit="loop")
    features: list[np.ndarray] = []
    for first in range(0, len(chosen), 256):
        waves = [pairs[i][0].audio(pairs[i][1]) for i in chosen[first : first + 256]]
        features += encode_waves(encoder, waves, how)
    units = UnitsConfig(codebook=config.codebook, dim=encoder.width)
    tokenizer = fit_units(features, units, seed=config.seed)
    tokenizer.provenance = Provenance.of(
        [pairs[i][1].subject_id for i in chosen], command="pretrain beats", seed=config.seed
    )
    found = [tokenizer.units(torch.from_numpy(clip.astype(np.float32))).numpy() for clip in features]
    usage = unit_usage(found, config.codebook)
    return tokenizer, {"codebook": config.codebook, "perplexity": usage.perplexity, "dead": usage.dead}


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


def _score(tagger: EventTagger, valid: TagDataset, collate: TagCollate, batch_size: int) -> dict[str, Any]:
    """Event AUC per corpus and tag, per clip and per column; ``event_auc`` is the mean over corpora."""
    outputs: list[Any] = []

    def collect(found: list[Any]) -> float:
        outputs.extend(found)
        return 0.0

    with torch.no_grad():
        validation(valid, collate, batch_size, collect)(tagger)
    names = np.array([valid.data.corpus[row] for row in valid.rows])
    scores: dict[str, Any] = {"per_corpus": {}}
    for name in sorted(set(names)):
        here = torch.from_numpy(names == name)
        areas = {}
        for level in ("clip", "column"):
            logits = torch.cat([output[f"{level}_logits"] for output in outputs])[here].flatten(0, -2)
            targets = torch.cat([output[f"{level}_tags"] for output in outputs])[here].flatten(0, -2)
            areas[level] = tag_auc(logits.numpy(), targets.numpy())
        scores["per_corpus"][name] = areas
    means = [np.mean(list(a["clip"].values())) for a in scores["per_corpus"].values() if a["clip"]]
    return {"event_auc": float(np.mean(means)) if means else 0.0, **scores}
