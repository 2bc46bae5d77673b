"""Recipes of the encoder and its units at equal compute: trained, probed, and held side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
from beats.frames import FrameClips, FrameRows, raw_frames
from beats.label import UnitCollate, fit_kmeans, fit_residual, sample_features
from beats.masked import MaskedPredictor
from beats.probe import probe
from beats.probe_data import ProbeSet
from beats.random_units import RandomUnits
from beats.stages import train_masked, train_tagged, train_tokenizer
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
    "untrained, conv stem": (),
    "events, conv stem": (Stage("tagged", "conv", 1.0),),
    "events, patch stem": (Stage("tagged", "patch", 1.0),),
    "events, distilled": (Stage("tagged", "conv", 0.7), Stage("tokenizer", "conv", 0.3)),
    "masked, patch stem": _published("patch"),
    "masked, conv stem": _published("conv"),
}
CODE = 64  # width of a distilled code
DISTIL = DistilConfig(layers=1, patience=20)  # short trainings: idle codes are replaced soon
FIRST = "events, conv stem"  # sets the compute; its units also come larger and residual


class RecipeConfig(Strict):
    """What all recipes share.

    Attributes:
        steps: of the recipe ``FIRST``; its compute is what every recipe may spend.
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
    """What is read from a recipe's clips, on one suite with one seed."""

    recipe: str
    read: str  # the control, the features, or which units
    suite: str
    seed: int
    chance: float
    balanced_accuracy: float
    auroc: float
    perplexity: list[float] = []
    dead: list[int] = []


class Heard(NamedTuple):
    """What recipes hear: events with their tags, and whole windows of the same subjects."""

    tagged: TaggedClips
    whole: FrameClips


def train_recipe(
    name: str, heard: Heard, config: RecipeConfig, seed: int, work: Path
) -> tuple[BeatsEncoder, BeatsTokenizer | None, list[dict[str, Any]]]:
    """Train the stages of a recipe one on another.

    A tokenizer is distilled from the encoder before it, and tells the masked prediction after it what to
    predict; computing those units is paid for too.

    Args:
        name: of :data:`RECIPES`.
        heard: clips.
        config: batch size and rates.
        seed: of the training.
        work: folder for checkpoints.

    Returns:
        the last encoder, the last tokenizer if there is one, and each stage's report.
    """
    budget = config.steps * step_flops(RECIPES[FIRST][0], heard, config)
    seed_all(derive(seed, "compare", name))
    encoder = BeatsEncoder(beats_config("tiny", "conv")).eval()
    tokenizer: BeatsTokenizer | None = None
    reports = []
    for stage in RECIPES[name]:
        left = stage.share * budget
        if stage.kind == "masked" and tokenizer is not None:
            left -= labelling_flops(tokenizer, heard)
        steps = max(1, round(left / step_flops(stage, heard, config)))
        fit = FitConfig(
            steps=steps,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            eval_every=max(1, steps // 5),
        )
        common: dict[str, Any] = {"stem": stage.stem, "seed": seed, "fit": fit}
        if stage.kind == "tokenizer":
            settings = TokenizerStageConfig(
                **common, teacher="", codebook=config.codebook, code_dim=CODE, distil=DISTIL
            )
            trained = train_tokenizer(heard.whole, encoder, settings, work / "fit")
            tokenizer = trained.network
        elif stage.kind == "masked":
            masked = MaskedStageConfig(**common, random=RandomUnitsConfig(codebook=config.codebook))
            trained = train_masked(heard.whole, masked, work / "fit", tokenizer=tokenizer)
            encoder = trained.network
        else:
            trained = train_tagged(heard.tagged, TaggedStageConfig(**common), work / "fit")
            encoder = trained.network
        reports.append({"kind": stage.kind, "operations": stage.share * budget, **trained.report})
    return encoder, tokenizer, reports


def step_flops(stage: Stage, heard: Heard, config: RecipeConfig) -> int:
    """Floating-point operations of one step's matrix products and convolutions, there and back."""
    settings = StageConfig(stem=stage.stem)
    encoder = BeatsEncoder(beats_config(settings.size, stage.stem))
    rows = np.arange(config.batch_size)
    model: EventTagger | MaskedPredictor | UnitDistiller
    batch: dict[str, torch.Tensor]
    if stage.kind == "tagged":
        data = heard.tagged
        model = EventTagger(encoder, torch.ones(data.tags.shape[-1]))
        part = FrameRows(data, rows % len(data), data.tags, train=False)
        batch = TagCollate(settings.shortest_columns, change=False)([part[i] for i in range(len(part))])
    else:
        part = FrameRows(heard.whole, rows % len(heard.whole), train=False)
        batch = UnitCollate(settings.shortest_columns, change=False)([part[i] for i in range(len(part))])
        if stage.kind == "masked":
            model = MaskedPredictor(encoder, config.codebook, MaskedStageConfig().masked)
            random = RandomUnits(RandomUnitsConfig(codebook=config.codebook))
            batch["units"] = random.units_of_frames(**batch)
        else:
            sizes = QuantizerConfig(codebook=config.codebook, dim=encoder.width, code_dim=CODE)
            tokenizer = BeatsTokenizer(encoder, Quantizer(sizes))
            model = UnitDistiller(BeatsEncoder(encoder.config), tokenizer, DISTIL)
    # In eval mode, or the first codes' k-means would be counted as if every step had it.
    model.eval()
    frozen = 0
    if isinstance(model, UnitDistiller):
        teacher = model.teacher
        frozen = _flops(lambda: teacher.encode_frames(**batch))
    # The way back costs twice the way there, but for the teacher, which has none.
    return 3 * _flops(lambda: model(**batch)) - 2 * frozen


def labelling_flops(tokenizer: BeatsTokenizer, heard: Heard) -> int:
    """Operations of computing the units of all clips."""
    frames = raw_frames([heard.whole[0]])
    counts = torch.tensor([heard.whole.length])
    return len(heard.whole) * _flops(lambda: tokenizer.encoder.encode_frames(frames, counts))


def _flops(forward: Callable[[], Any]) -> int:
    # The counter knows no fused attention on a CPU; spelled out it counts the same products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


def compare_recipe(
    name: str, heard: Heard, sets: Sequence[ProbeSet], config: RecipeConfig, seed: int, work: Path
) -> dict[str, Any]:
    """Train one recipe with one seed and probe what it gave.

    Returns:
        ``rows`` (:class:`RecipeRow` as mappings) and ``stages`` (reports).
    """
    encoder, tokenizer, reports = train_recipe(name, heard, config, seed, work)
    quantizers: dict[str, nn.Module] = {}
    sample = sample_features(encoder, heard.tagged, UnitFitConfig().clips, seed)
    for codebook in (config.codebook, *((4 * config.codebook,) if name == FIRST else ())):
        quantizers[f"k-means {codebook}"], _ = fit_kmeans(sample, codebook, seed)
    if name == FIRST:
        quantizers[f"residual 2 x {config.codebook}"] = fit_residual(sample, config.codebook, 2, seed)
    if tokenizer is not None:
        quantizers[f"distilled {config.codebook}"] = tokenizer
    rows = [
        RecipeRow(
            recipe=name,
            read=row.representation,
            suite=row.suite,
            seed=seed,
            chance=row.chance,
            balanced_accuracy=row.balanced_accuracy.mean,
            auroc=row.auroc.mean,
            perplexity=[book.perplexity for book in row.codebooks],
            dead=[book.dead for book in row.codebooks],
        )
        for row in probe(sets, encoder, quantizers, seeds=1, control=not RECIPES[name])
    ]
    return {"stages": reports, "rows": [row.model_dump(mode="json") for row in rows]}
