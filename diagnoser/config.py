"""Configs of the diagnoser. Light: no torch in here."""

from __future__ import annotations

from typing import Annotated, Literal, Self

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
TUNED = "encoder"  # in a diagnoser's folder: its own encoder, if that was trained with it


class Anchors(Strict):
    """Audio places with global attention: the named ``rows`` of every ``every_columns``-th column.

    The paper's "every 4th of 496 places" is rows 0 and 4 of the eight rows of every column.
    """

    every_columns: int = Field(default=1, gt=0)
    rows: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.rows) != sorted(set(self.rows)):
            raise ValueError(f"anchors.rows {list(self.rows)} must ascend, each row once")
        return self


class DiagnoserSizes(Strict):
    """Sizes and regularisation. The defaults train on two CPU cores in a minute.

    Attributes:
        hidden: width of the Longformer.
        layers: its layers.
        heads: its attention heads.
        inner: width of its feed-forward layers.
        window: width of the sliding attention window, places (even).
        attention: how it is computed; the output is the same. ``auto`` takes the dense or the banded form
            by length, ``dense`` two masked attention calls, ``library`` the sliding chunks of transformers.
        rows: frequency rows after averaging neighbours; must divide the grid's rows.
        anchors: audio places with global attention, by row after averaging; none: only ``[CLS]`` and
            ``[DESCRIPTION]`` attend globally.
        pool: what the classifier sees: the ``[CLS]`` state (the paper's), or the average of it and the
            mean audio state, which learns from fewer clips.
        text_tokens: longest narrative, tokens.
        vocabulary: size of the tokenizer trained on the narratives.
        max_columns: longest audio, columns of 160 ms.
        dropout: of states.
        text_dropout: share of text tokens hidden in training (paper: 0.2).
        audio_dropout: share of audio columns hidden in training (paper: 0.1).
        whole_text_dropout: share of samples whose narrative is hidden whole in training.
        whole_audio_dropout: share of samples whose audio is hidden whole in training; a sample never
            loses both.
    """

    hidden: int = Field(default=64, gt=0)
    layers: int = Field(default=2, gt=0)
    heads: int = Field(default=4, gt=0)
    inner: int = Field(default=128, gt=0)
    window: int = Field(default=32, gt=0, multiple_of=2)
    attention: Literal["auto", "dense", "library"] = "auto"
    rows: int = Field(default=2, gt=0)
    anchors: Anchors | None = Anchors()
    pool: Literal["cls", "mean"] = "mean"
    text_tokens: int = Field(default=32, ge=0)
    vocabulary: int = Field(default=400, ge=64)
    max_columns: int = Field(default=62, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    text_dropout: float = Field(default=0.2, ge=0, lt=1)
    audio_dropout: float = Field(default=0.1, ge=0, lt=1)
    whole_text_dropout: float = Field(default=0.0, ge=0, lt=1)
    whole_audio_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of heads {self.heads}")
        if self.anchors is not None and self.anchors.rows[-1] >= self.rows:
            raise ValueError(f"anchors.rows {list(self.anchors.rows)} must lie below rows {self.rows}")
        if self.whole_text_dropout + self.whole_audio_dropout > 1:
            raise ValueError("whole_text_dropout and whole_audio_dropout add up to more than 1")
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


class AugmentConfig(Strict):
    """Augmentation of the grids of training clips; a grid is what the diagnoser (or its encoder) hears.

    Attributes:
        mixup: Zhang et al. (2018): ``alpha`` of the Beta distribution of the shares; 0: off.
        time_masks: Park et al. (2019), SpecAugment: spans of columns set to the training clips' mean.
        time_share: longest of these spans, as a share of the clip's columns.
        row_masks: spans of frequency rows set to the mean.
        row_share: longest of these spans, as a share of the grid's rows.
    """

    mixup: float = Field(default=0.0, ge=0)
    time_masks: int = Field(default=0, ge=0)
    time_share: float = Field(default=0.2, gt=0, lt=1)
    row_masks: int = Field(default=0, ge=0)
    row_share: float = Field(default=0.25, gt=0, lt=1)

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        for masks, share, name in (
            (self.time_masks, self.time_share, "time"),
            (self.row_masks, self.row_share, "row"),
        ):
            if masks * share >= 1:
                raise ValueError(f"{masks} {name} masks of {share:g} may hide a whole clip")
        return self


class Learning(Strict):
    """How a diagnoser learns, whatever it learns from.

    Attributes:
        model: sizes.
        fit: optimisation.
        text: whether the narrative is read.
        balanced: draw the classes equally often.
        loss_weights: of the classes: ``inverse`` is one over the class's clips, ``effective`` one over
            their effective number (Cui et al. 2019). Sampling and loss do not know of each other: with
            ``balanced`` both act.
        effective_beta: of the effective number, (1 - beta^n) / (1 - beta).
        logit_adjustment: times the classes' log shares of the training clips, added to the logits in the
            training loss alone (Menon et al. 2021, tau); 0: off.
        synthetic_weight: of a synthetic clip's loss, beside 1 for a real one.
        augment: of the grids, in training.
    """

    model: DiagnoserSizes = DiagnoserSizes()
    fit: FitConfig = FitConfig(steps=400, batch_size=32, learning_rate=2e-3, eval_every=50, patience=4)
    text: bool = True
    balanced: bool = False
    loss_weights: Literal["none", "inverse", "effective"] = "none"
    effective_beta: float = Field(default=0.999, ge=0, lt=1)
    logit_adjustment: float = Field(default=0.0, ge=0)
    synthetic_weight: float = Field(default=1.0, ge=0)
    augment: AugmentConfig = AugmentConfig()


class DiagnoserTrainConfig(Learning):
    """How a diagnoser is trained, and on what. Paths may hold ``${NAME}``.

    Attributes:
        corpus: corpus folder; trains on ``train``, stops and calibrates on ``select``.
        task: which labels.
        synthetic: further corpus folders, whose synthetic clips join the training clips.
        repeats: JSON file ``{clip_id: extra copies}`` (oversampling).
        beats: the encoder of the clips.
        preprocess: how a clip becomes the encoder's input.
        tune_encoder: train the encoder too; the tuned one is written into the diagnoser's folder. Give it
            a smaller rate with ``fit.rates: {encoder: 0.1}``.
        init: folder of a diagnoser to start from (same task and sizes).
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
    tune_encoder: bool = False
    init: str | None = None
    seed: int = Field(default=0, ge=0)
    cache: str | None = None
    max_gb: float = Field(default=20.0, gt=0)

    @model_validator(mode="after")
    def _task_exists(self) -> Self:
        get_task(self.task)
        return self
