"""Configs of the audio representation. Light: no torch in here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from resp229k.audio import Preprocess
from resp229k.clip import EventKind
from training.config import Strict
from training.errors import ConfigError
from training.fitconfig import FitConfig

BINS = 128  # filterbank bins
PATCH = 16  # frames per column, bins per row
ROWS = BINS // PATCH  # frequency rows of the grid
TAGS: tuple[EventKind, ...] = (
    "crackle",
    "fine crackle",
    "coarse crackle",
    "wheeze",
    "rhonchus",
    "stridor",
    "squawk",
    "cough",
)
"""Event tags of the supervised pre-training; ``crackle`` stands for any kind of crackle."""


class BeatsConfig(Strict):
    """Sizes of the encoder. The defaults are the published base size.

    ``stem`` turns filterbank frames into the grid: ``patch`` is the published 16 x 16 patch
    embedding, ``conv`` three convolutions over three views of the same frames.
    """

    stem: Literal["patch", "conv"] = "patch"
    embed_dim: int = Field(default=512, gt=0)  # width of the stem's output
    dim: int = Field(default=768, gt=0)
    ffn_dim: int = Field(default=3072, gt=0)
    layers: int = Field(default=12, gt=0)
    heads: int = Field(default=12, gt=0)
    conv_pos: int = Field(default=128, gt=0)  # kernel of the positional convolution, tokens
    conv_pos_groups: int = Field(default=16, gt=0)
    buckets: int = Field(default=320, gt=3, multiple_of=4)
    max_distance: int = Field(default=800, gt=0)  # tokens
    deep_norm: bool = True
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.dim % self.heads or self.dim % self.conv_pos_groups:
            raise ValueError(f"dim {self.dim} must be a multiple of heads and of conv_pos_groups")
        if self.max_distance <= self.buckets // 4:
            raise ValueError(f"max_distance must exceed the {self.buckets // 4} exact buckets")
        return self


def beats_config(size: Literal["tiny", "base"], stem: Literal["patch", "conv"] = "patch") -> BeatsConfig:
    """A named size: ``tiny`` (0.4 M parameters, for CPU) or ``base`` (90 M, as published).

    Raises:
        ConfigError: there is no such size.
    """
    if size == "base":
        return BeatsConfig(stem=stem)
    if size == "tiny":
        return BeatsConfig(
            stem=stem,
            embed_dim=96,
            dim=96,
            ffn_dim=288,
            layers=3,
            heads=3,
            conv_pos=64,
            max_distance=400,
            dropout=0.05,
        )
    raise ConfigError(f"no encoder size {size!r}", cure="use tiny or base")


class UnitsConfig(Strict):
    """The unit tokenizer: how many units, over features of which width."""

    codebook: int = Field(default=256, gt=1)
    dim: int = Field(default=96, gt=0)


class QuantizerConfig(UnitsConfig):
    """The published tokenizer's head. The defaults are the published sizes."""

    codebook: int = Field(default=1024, gt=1)
    dim: int = Field(default=768, gt=0)
    code_dim: int = Field(default=256, gt=0)  # width that features are projected to


class JudgeConfig(Strict):
    """The independent judge: a log-mel CNN for the classes it was trained on."""

    task: str
    classes: tuple[str, ...] = Field(min_length=2)
    preprocess: Preprocess = Preprocess(fit="loop")
    mels: int = Field(default=64, gt=7)
    channels: int = Field(default=32, gt=3)
    dropout: float = Field(default=0.2, ge=0, lt=1)


class StageConfig(Strict):
    """What every stage of the encoder's training has in common.

    Attributes:
        size: of the encoder.
        stem: of the encoder.
        seconds: clips are looped or cut to this length, s.
        shortest_columns: a training batch is cropped to a random length from here to the whole clip.
        held_out: share of the sources (or subjects of a large source) kept for validation, unless the
            corpora have clips of split ``select``: then it is those.
        augment: training clips come from another random recorder each; targets stay.
        memory_gb: filterbank frames of all clips are kept in memory up to this size, by each process.
        fit: optimisation; its seed follows from ``seed``.
    """

    size: Literal["tiny", "base"] = "tiny"
    stem: Literal["patch", "conv"] = "patch"
    seconds: float = Field(default=4.0, ge=0.2)
    shortest_columns: int = Field(default=12, gt=0)
    held_out: float = Field(default=0.12, gt=0, lt=1)
    augment: bool = True
    memory_gb: float = Field(default=8.0, ge=0)
    seed: int = Field(default=0, ge=0)
    fit: FitConfig = FitConfig(steps=1500, batch_size=32, learning_rate=1e-3, eval_every=250)


class TaggedStageConfig(StageConfig):
    """Supervision by event tags."""


class UnitFitConfig(Strict):
    """K-means units of an encoder.

    Attributes:
        codebook: units.
        clips: whose features the units are fitted to, at most.
    """

    codebook: int = Field(default=256, gt=1)
    clips: int = Field(default=2000, gt=0)


class BeatsPretrainConfig(TaggedStageConfig):
    """Event-tag supervision of the encoder, and its units; or finished weights of both.

    Attributes:
        weights: a folder of encoder and tokenizer, a shipped set, or a published tokenizer file. It is taken
            as it is: nothing is trained then, and the other keys say nothing. May hold ``${NAME}``.
        units: that are fitted to the trained encoder.
    """

    weights: str | None = None
    units: UnitFitConfig = UnitFitConfig()


class JudgeTrainConfig(Strict):
    """Training of the judge on real clips."""

    task: str = "disease16"
    preprocess: Preprocess = Preprocess(fit="loop")
    mels: int = Field(default=64, gt=7)
    channels: int = Field(default=32, gt=3)
    seed: int = Field(default=0, ge=0)
    fit: FitConfig = FitConfig(
        steps=700, batch_size=32, learning_rate=2e-3, weight_decay=0.02, eval_every=100
    )


class RandomUnitsConfig(Strict):
    """The random-projection tokenizer of the first iteration."""

    codebook: int = Field(default=1024, gt=1)
    code_dim: int = Field(default=256, gt=0)  # width that patches are projected to


class MaskedConfig(Strict):
    """Masked prediction of units.

    Attributes:
        share: of a clip's tokens that is hidden.
        layers: of the predictor; 1 suits the tiny encoder, 2 the base one.
    """

    share: float = Field(default=0.75, gt=0, lt=1)
    layers: int = Field(default=1, gt=0)


class DistilConfig(Strict):
    """Distillation of a tokenizer from an encoder.

    Attributes:
        layers: of the estimator, 3 as published.
        decay: of the codes' running means, as published.
        patience: batches without use after which a code is replaced.
    """

    layers: int = Field(default=3, gt=0)
    decay: float = Field(default=0.99, gt=0, lt=1)
    patience: int = Field(default=100, gt=0)


class MaskedStageConfig(StageConfig):
    """Masked prediction of units.

    Attributes:
        units: ``random``, or whose units are predicted: a folder of encoder and tokenizer, or a published
            tokenizer file.
        random: sizes of the random units.
        masked: share hidden, and size of the predictor.
    """

    units: str = "random"
    random: RandomUnitsConfig = RandomUnitsConfig()
    masked: MaskedConfig = MaskedConfig()


class UnitStageConfig(UnitFitConfig):
    """K-means units as a stage.

    Attributes:
        encoder: folder of an encoder, or a published checkpoint file.
        seconds: clips are looped or cut to this length, s.
    """

    encoder: str
    seconds: float = Field(default=4.0, ge=0.2)
    seed: int = Field(default=0, ge=0)


class TokenizerStageConfig(StageConfig):
    """A tokenizer distilled from an encoder.

    Attributes:
        teacher: folder of an encoder, or a published checkpoint file.
        warm: the tokenizer's encoder starts as the teacher, not anew; ``size`` and ``stem`` are then its.
        codebook: units.
        code_dim: width that features are projected to.
        distil: estimator and running means.
    """

    teacher: str
    warm: bool = True
    codebook: int = Field(default=1024, gt=1)
    code_dim: int = Field(default=256, gt=0)
    distil: DistilConfig = DistilConfig()


class BeatsSource(Strict):
    """Which weights encode the clips. They are read, not trained.

    Attributes:
        weights: a shipped set, a folder of ours (an encoder alone will do), or a published checkpoint
            file. May hold ``${NAME}``.
    """

    weights: str = "tiny/beats"
