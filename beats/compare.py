"""Recipes of the encoder and its units at equal compute: trained, probed, and held side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from beats.config import (
    DistilConfig,
    MaskedStageConfig,
    QuantizerConfig,
    RandomUnitsConfig,
    StageConfig,
    TaggedStageConfig,
    TokenizerStageConfig,
    UnitFitConfig,
    beats_config,
)
from beats.distil import UnitDistiller
from beats.encoder import BeatsEncoder
from beats.frames import FrameRows
from beats.label import UnitCollate, fit_kmeans, fit_residual
from beats.masked import MaskedPredictor
from beats.probe import FEATURES, probe
from beats.probe_data import ProbeSet
from beats.random_units import RandomUnits
from beats.stages import Trained, train_masked, train_tagged, train_tokenizer
from beats.tagger import EventTagger
from beats.tags import TagCollate, TaggedClips
from beats.tokenizer import BeatsTokenizer, Quantizer
from training.config import Strict
from training.fitconfig import FitConfig
from training.seeds import derive, seed_all

Kind = Literal["tagged", "masked", "tokenizer"]
Stem = Literal["patch", "conv"]


@dataclass(frozen=True)
class Stage:
    """One training: of what kind, with which stem, and its share of the recipe's compute."""

    kind: Kind
    stem: Stem
    share: float


def _published(stem: Stem) -> tuple[Stage, ...]:
    """Random units predicted, a tokenizer distilled from that, its units predicted by a new encoder."""
    return Stage("masked", stem, 0.4), Stage("tokenizer", stem, 0.2), Stage("masked", stem, 0.4)


RECIPES: dict[str, tuple[Stage, ...]] = {
    "events, conv stem": (Stage("tagged", "conv", 1.0),),
    "events, patch stem": (Stage("tagged", "patch", 1.0),),
    "events, distilled": (Stage("tagged", "conv", 0.7), Stage("tokenizer", "conv", 0.3)),
    "masked, patch stem": _published("patch"),
    "masked, conv stem": _published("conv"),
}
DISTIL = DistilConfig(layers=1, patience=20)  # short trainings: idle codes are replaced soon
LARGER = "events, conv stem"  # the recipe whose units also come larger and residual


class RecipeConfig(Strict):
    """What all recipes share.

    Attributes:
        steps: of the first recipe; its compute is what every recipe may spend.
        batch_size: clips of a step.
        codebook: units of every tokenizer that is not said to be larger.
        seeds: trainings per recipe.
        probe_clips: of a part of a suite, at most.
    """

    steps: int = 1200
    batch_size: int = 32
    learning_rate: float = 1e-3
    codebook: int = 256
    seeds: int = 3
    probe_clips: int = 500


class RecipeRow(Strict):
    """A recipe's features or units on one suite, one seed."""

    recipe: str
    units: str | None  # None: the features
    suite: str
    seed: int
    chance: float
    balanced_accuracy: float
    auroc: float
    kept: float | None = None
    perplexity: list[float] = []
    dead: list[int] = []


def train_recipe(
    stages: Sequence[Stage], data: TaggedClips, budget: float, config: RecipeConfig, seed: int, work: Path
) -> tuple[BeatsEncoder, BeatsTokenizer | None, list[dict[str, Any]]]:
    """Train the stages of a recipe one on another.

    Args:
        stages: in order; a tokenizer is distilled from the encoder before it, and tells the masked
            prediction after it what to predict.
        data: clips and tags.
        budget: floating-point operations of all stages together.
        config: batch size and rates.
        seed: of the training.
        work: folder for checkpoints.

    Returns:
        the last encoder, the last tokenizer if there is one, and each stage's report.
    """
    encoder: BeatsEncoder | None = None
    tokenizer: BeatsTokenizer | None = None
    reports = []
    for stage in stages:
        steps = max(1, round(stage.share * budget / step_flops(stage, data, config)))
        fit = FitConfig(
            steps=steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            eval_every=max(1, steps // 5),
        )
        common: dict[str, Any] = {"stem": stage.stem, "seed": seed, "fit": fit}
        trained: Trained
        if stage.kind == "tagged":
            trained = train_tagged(data, TaggedStageConfig(**common), work / "fit")
            encoder = trained.network
        elif stage.kind == "masked":
            masked = MaskedStageConfig(**common, random=RandomUnitsConfig(codebook=config.codebook))
            trained = train_masked(data, masked, work / "fit", tokenizer=tokenizer)
            encoder = trained.network
        else:
            assert encoder is not None
            settings = TokenizerStageConfig(
                **common, teacher="", codebook=config.codebook, code_dim=64, distil=DISTIL
            )
            trained = train_tokenizer(data, encoder, settings, work / "fit")
            tokenizer = trained.network
        reports.append({"kind": stage.kind, "stem": stage.stem, **trained.report})
    assert encoder is not None
    return encoder, tokenizer, reports


def step_flops(stage: Stage, data: TaggedClips, config: RecipeConfig) -> int:
    """Floating-point operations of one step's matrix products and convolutions, there and back."""
    settings = StageConfig(stem=stage.stem)
    encoder = BeatsEncoder(beats_config(settings.size, stage.stem))
    rows = np.arange(config.batch_size) % len(data)
    model: EventTagger | MaskedPredictor | UnitDistiller
    batch: dict[str, torch.Tensor]
    if stage.kind == "tagged":
        model = EventTagger(encoder, torch.ones(data.tags.shape[-1]))
        part = FrameRows(data, rows, data.tags, train=False)
        batch = TagCollate(settings.shortest_columns)([part[i] for i in range(len(rows))])
    else:
        part = FrameRows(data, rows, train=False)
        batch = UnitCollate(settings.shortest_columns)([part[i] for i in range(len(rows))])
        if stage.kind == "masked":
            model = MaskedPredictor(encoder, config.codebook, MaskedStageConfig().masked)
            random = RandomUnits(RandomUnitsConfig(codebook=config.codebook))
            batch["units"] = random.units_of_frames(**batch)
        else:
            quantizer = Quantizer(QuantizerConfig(codebook=config.codebook, dim=encoder.width, code_dim=64))
            teacher = BeatsEncoder(encoder.config)
            model = UnitDistiller(teacher, BeatsTokenizer(encoder, quantizer), DISTIL)
    frozen = 0
    if isinstance(model, UnitDistiller):
        frozen = _flops(lambda: model.teacher.encode_frames(**batch))
    # The way back costs twice the way there, but for the teacher, which has none.
    return 3 * _flops(lambda: model(**batch)) - 2 * frozen


def _flops(forward: Callable[[], Any]) -> int:
    # The counter knows no fused attention on a CPU; spelled out it counts the same products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


def compare_recipe(
    name: str,
    data: TaggedClips,
    sets: Sequence[ProbeSet],
    config: RecipeConfig,
    seed: int,
    work: Path,
) -> dict[str, Any]:
    """Train one recipe with one seed and probe what it gave.

    Returns:
        ``rows`` (:class:`RecipeRow` as mappings), ``stages`` (reports) and ``budget`` (operations).
    """
    seed_all(derive(seed, "compare", name))
    first = next(iter(RECIPES.values()))[0]
    budget = config.steps * step_flops(first, data, config)
    encoder, tokenizer, reports = train_recipe(RECIPES[name], data, budget, config, seed, work)
    quantizers: dict[str, nn.Module] = {}
    for codebook in (config.codebook, *((4 * config.codebook,) if name == LARGER else ())):
        quantizers[f"k-means {codebook}"] = fit_kmeans(encoder, data, UnitFitConfig(codebook=codebook), seed)[
            0
        ]
    if name == LARGER:
        quantizers[f"residual 2 x {config.codebook}"] = fit_residual(
            encoder, data, UnitFitConfig(codebook=config.codebook), seed, depth=2
        )
    if tokenizer is not None:
        quantizers[f"distilled {config.codebook}"] = tokenizer
    rows = [
        RecipeRow(
            recipe=name,
            units=None if row.representation == FEATURES else row.representation,
            suite=row.suite,
            seed=seed,
            chance=row.chance,
            balanced_accuracy=row.balanced_accuracy.mean,
            auroc=row.auroc.mean,
            kept=row.kept,
            perplexity=[book.perplexity for book in row.codebooks],
            dead=[book.dead for book in row.codebooks],
        )
        for row in probe(sets, encoder, quantizers, seeds=1, control=False)
    ]
    return {
        "budget": budget,
        "stages": reports,
        "rows": [row.model_dump(mode="json") for row in rows],
    }
