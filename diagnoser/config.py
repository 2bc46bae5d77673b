"""Configs of the diagnoser. Light: no torch in here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from beats.config import BeatsSource
from resp229k.audio import Preprocess
from resp229k.tasks import get_task
from training.config import Strict
from training.fitconfig import FitConfig

SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[DESCRIPTION]")
"""The first places of the vocabulary, in this order (the order of RoBERTa's special tokens)."""
CLS, PAD, SEP, UNK, DESCRIPTION = range(len(SPECIAL))

MAKERS = "subjects.json"  # beside a synthetic manifest: subjects that its makers were trained on


class Anchors(Strict):
    """Audio places with global attention: ``rows`` rows of every ``every_columns``-th column.

    The paper's "every 4th of 496 places" is two of the eight rows of every column.
    """

    every_columns: int = Field(default=1, gt=0)
    rows: int = Field(default=1, gt=0)


class DiagnoserSizes(Strict):
    """Sizes and regularisation. The defaults train on two CPU cores in a minute.

    Attributes:
        hidden: width of the Longformer.
        layers: its layers.
        heads: its attention heads.
        inner: width of its feed-forward layers.
        window: width of the sliding attention window, places (even).
        attention: ``dense`` and ``library`` give the same output; ``library`` is the sliding window of
            transformers, for long sequences; ``dense`` two masked attention calls, faster on CPUs.
        rows: frequency rows after averaging neighbours; must divide the grid's rows.
        anchors: audio places with global attention.
        pool: what the classifier sees: the ``[CLS]`` state (the paper's), or the average of it and the
            mean audio state, which learns from fewer clips.
        text_tokens: longest narrative, tokens.
        vocabulary: size of the tokenizer trained on the narratives.
        max_columns: longest audio, columns of 160 ms.
        dropout: of states.
        text_dropout: share of text tokens hidden in training (paper: 0.2).
        audio_dropout: share of audio columns hidden in training (paper: 0.1).
    """

    hidden: int = Field(default=64, gt=0)
    layers: int = Field(default=2, gt=0)
    heads: int = Field(default=4, gt=0)
    inner: int = Field(default=128, gt=0)
    window: int = Field(default=32, gt=0, multiple_of=2)
    attention: Literal["dense", "library"] = "dense"
    rows: int = Field(default=2, gt=0)
    anchors: Anchors = Anchors()
    pool: Literal["cls", "mean"] = "mean"
    text_tokens: int = Field(default=32, ge=0)
    vocabulary: int = Field(default=400, ge=64)
    max_columns: int = Field(default=62, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    text_dropout: float = Field(default=0.2, ge=0, lt=1)
    audio_dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of heads {self.heads}")
        if self.rows % self.anchors.rows:
            raise ValueError(f"rows {self.rows} is no multiple of anchors.rows {self.anchors.rows}")
        return self

    @property
    def places(self) -> int:
        """Longest sequence: [CLS], [DESCRIPTION], text, audio, [SEP]."""
        return 3 + self.text_tokens + self.max_columns * self.rows


class DiagnoserConfig(Strict):
    """One network: its sizes, its classes and what its features look like."""

    task: str
    classes: tuple[str, ...] = Field(min_length=2)
    feature_dim: int = Field(gt=0)
    feature_rows: int = Field(default=8, gt=0)
    sizes: DiagnoserSizes = DiagnoserSizes()

    @model_validator(mode="after")
    def _rows_divide(self) -> Self:
        if self.feature_rows % self.sizes.rows:
            raise ValueError(
                f"rows {self.sizes.rows} must divide the {self.feature_rows} rows of the feature grid"
            )
        return self


class DiagnoserTrainConfig(Strict):
    """How a diagnoser is trained. Paths may hold ``${NAME}``.

    Attributes:
        corpus: corpus folder; trains on ``train``, stops and calibrates on ``select``.
        task: which labels.
        synthetic: further corpus folders, whose synthetic clips join the training clips.
        repeats: JSON file ``{clip_id: extra copies}`` (oversampling).
        beats: the encoder of the clips.
        preprocess: how a clip becomes the encoder's input.
        model: sizes.
        fit: optimisation.
        balanced: draw the classes equally often.
        loss_weights: ``inverse`` weights a clip's loss by one over its class's clips.
        init: folder of a diagnoser to start from (same task and sizes).
        text: whether the narrative is read.
        seed: of initial weights and narratives.
        cache: folder of the feature stores; none: ``features`` beside each corpus's audio.
        max_gb: largest feature store, GB.
    """

    corpus: str
    task: str
    synthetic: list[str] = []
    repeats: str | None = None
    beats: BeatsSource = BeatsSource()
    preprocess: Preprocess = Preprocess()
    model: DiagnoserSizes = DiagnoserSizes()
    fit: FitConfig = FitConfig(steps=400, batch_size=32, learning_rate=2e-3, eval_every=50, patience=4)
    balanced: bool = False
    loss_weights: Literal["none", "inverse"] = "none"
    init: str | None = None
    text: bool = True
    seed: int = Field(default=0, ge=0)
    cache: str | None = None
    max_gb: float = Field(default=20.0, gt=0)

    @model_validator(mode="after")
    def _task_exists(self) -> Self:
        get_task(self.task)
        return self
