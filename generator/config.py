"""Configs of the generator. This module imports no torch, so that the command line can read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from generator.codec_config import CodecConfig, MelConfig
from resp229k.audio import Preprocess
from resp229k.clip import EventKind
from training.config import Strict, validate
from training.errors import CheckpointError, ConfigError, DataError
from training.files import read_json
from training.fitconfig import FitConfig

SHORTEST = 0.175  # s: sixteen frames of 25 ms, 10 ms apart, make one column of the unit grid


class Lora(Strict):
    """Low-rank adapters beside the linear layers of a base, which itself stays as it is."""

    rank: int = Field(default=8, gt=0)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | None = Field(default=None, min_length=1)  # names of layers; none: every linear


class MLLMSize(Strict):
    """What a user chooses about the Resp-MLLM. With a base, its own sizes stand in for those of a fresh network."""

    base: str | None = (
        None  # folder of a causal language model of the transformers library, with its tokenizer
    )
    lora: Lora | None = None  # of a base; none: everything is trained
    architecture: str = "qwen3"  # `model_type` of a fresh network
    hidden: int = Field(default=128, gt=0)
    layers: int = Field(default=3, gt=0)
    heads: int = Field(default=4, gt=0)
    kv_heads: int = Field(default=2, gt=0)
    intermediate: int = Field(default=384, gt=0)
    style: Literal["attention", "average"] = (
        "attention"  # how a reference's grid is pooled; average: the paper's
    )
    style_tokens: int = Field(default=8, gt=0)  # K of the paper
    unit_mask: float = Field(default=0.1, ge=0, lt=1)  # share of unit inputs hidden in training
    # Shares of training clips without their style, and without their text: guidance needs them.
    style_dropout: float = Field(default=0.0, ge=0, lt=1)
    label_dropout: float = Field(default=0.0, ge=0, lt=1)
    label_guidance: float = Field(default=1.0, ge=0)  # of draws that do not ask for one; 1: none
    events: bool = False  # whether the prompt may tell what happens in the clip, and how often
    event_dropout: float = Field(default=0.5, ge=0, lt=1)  # share of training clips that do not tell

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.lora is not None and self.base is None:
            raise ValueError("lora adapts a base, and there is none: set base to its folder, or lora to null")
        if self.hidden % self.heads or self.heads % self.kv_heads:
            raise ValueError(
                f"hidden {self.hidden}, heads {self.heads}, kv_heads {self.kv_heads}: each must divide the last"
            )
        if self.label_guidance != 1 and not self.label_dropout:
            raise ValueError(f"label_guidance {self.label_guidance} needs a label_dropout above 0")
        return self


Network = Literal["mllm", "flow"]
Predict = Literal["texture", "x", "velocity"]
Times = Literal["uniform", "logit_normal"]
Method = Literal["euler", "midpoint", "rk4", "dopri5"]


class FlowSize(Strict):
    """What a user chooses about the flow decoder.

    Attributes:
        predict: what the network says of a frame: mean and deviation of its values, the values, or the
            velocity (:mod:`generator.flow`).
        times: density of the flow times in training.
        content: what the sounds are read from: units and label, or the label alone, without a Resp-MLLM.
        prefix: largest share of a clip's frames that is given as frames of the reference, before the clip.
        patch: neighbouring frames that share a token of the network.
    """

    dim: int = Field(default=160, gt=0)
    layers: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    unit_dim: int = Field(default=32, gt=0)
    # Deviation of normalised frames around their reference's mean spectrum: the flow's unit.
    residual: float = Field(default=0.4, gt=0)
    unguided: float = Field(default=0.15, gt=0, lt=1)  # share of training clips without content and label
    predict: Predict = "texture"
    times: Times = "uniform"
    content: Literal["units", "none"] = "units"
    prefix: float = Field(default=0.0, ge=0, lt=1)  # the paper's is 0.3
    patch: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.dim % (4 * self.heads):
            raise ValueError(f"dim {self.dim} must be a multiple of 4 x heads ({self.heads})")
        return self


def check_label(labels: Mapping[str, Sequence[str]], task: str, label: str) -> None:
    """Refuse what the weights were not trained on.

    Raises:
        DataError: naming the trained tasks or labels.
    """
    if task not in labels:
        raise DataError(
            f"the generator was not trained on task {task!r}", cure=f"trained tasks: {', '.join(labels)}"
        )
    if label not in labels[task]:
        alike = [name for name in labels[task] if name.lower() == label.lower()]
        elsewhere = [other for other, names in labels.items() if label in names]
        cure = f"trained labels: {', '.join(labels[task])}"
        if alike:
            cure = f"write {alike[0]!r}"
        elif elsewhere:
            cure = f"it is one of task {elsewhere[0]}; {cure}"
        raise DataError(f"the generator was not trained on label {label!r} of task {task}", cure=cure)


class Grounding(Strict):
    """What the data decide: the labels, the unit grid, and how clips were prepared."""

    labels: dict[str, tuple[str, ...]] = Field(min_length=1)  # task -> classes that were trained
    feature_dim: int = Field(gt=0)  # D of the encoder's features
    rows: int = Field(gt=0)  # F of the grid
    columns: int = Field(gt=0)  # longest trained T of the grid
    codebook: int = Field(gt=1)
    preprocess: Preprocess = Preprocess()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All trained (task, label) pairs, in order."""
        return [(task, label) for task, names in self.labels.items() for label in names]

    def check(self, task: str, label: str, seconds: float) -> None:
        """Refuse a clip that networks of this training cannot make.

        Raises:
            DataError: unknown task or label, or a duration (s) outside the trained range.
        """
        check_label(self.labels, task, label)
        if not SHORTEST <= seconds <= self.preprocess.seconds:  # nor NaN
            raise DataError(
                f"{seconds} s cannot be generated",
                cure=f"ask for {SHORTEST} to {self.preprocess.seconds} s",
            )


G = TypeVar("G", bound=Grounding)


def _of_weights(cls: type[G], folder: Path, part: str) -> G:
    """The config of one network of a set of weights."""
    path = folder / part / "config.json"
    record = read_json(path) if path.is_file() else None
    if not isinstance(record, dict) or "config" not in record:
        raise CheckpointError(
            f"holds no generator: {part}/config.json is missing or no config",
            path=folder,
            cure="give a folder that `resp-agent train pretrain` wrote, or the shipped set tiny",
        )
    return validate(cls, record["config"], where=str(path))


class MLLMConfig(MLLMSize, Grounding):
    """Everything that defines a Resp-MLLM."""

    kinds: tuple[EventKind, ...] = get_args(EventKind)  # events that a prompt can tell of
    lm: dict[str, Any] | None = None  # the library's config of the base, written with the weights

    def check_guidance(self, label: float | None, style: float | None) -> None:
        """Refuse guidance (its scales) away from what training never left out.

        Raises:
            ConfigError: naming the setting.
        """
        for name, scale, dropped in (
            ("label", label, self.label_dropout),
            ("style", style, self.style_dropout),
        ):
            if scale not in (None, 1) and not dropped:
                raise ConfigError(
                    f"{name}_guidance is {scale}, but the Resp-MLLM was trained with {name}_dropout 0",
                    cure=f"set {name}_guidance to 1, or train with mllm.{name}_dropout above 0",
                )

    @classmethod
    def of_weights(cls, folder: Path) -> Self:
        """What ``folder/mllm`` was trained on, without loading a network.

        Raises:
            CheckpointError: the folder holds no Resp-MLLM.
            ConfigError: its config does not fit.
        """
        return _of_weights(cls, folder, "mllm")


class FlowConfig(FlowSize, Grounding):
    """Everything that defines a flow decoder."""

    codec: CodecConfig = MelConfig()

    @classmethod
    def of_weights(cls, folder: Path) -> Self:
        """What ``folder/flow`` was trained on, without loading a network.

        Raises:
            CheckpointError: the folder holds no flow decoder, or no Resp-MLLM for one that reads units.
            ConfigError: its config does not fit.
        """
        config = _of_weights(cls, folder, "flow")
        if config.content == "units":
            MLLMConfig.of_weights(folder)
        return config


class DrawConfig(Strict):
    """How training pairs of (target clip, style reference) are drawn."""

    splits: tuple[str, ...] = ("pretrain", "train")
    valid: str = "select"
    valid_clips: int = Field(default=256, gt=0)
    balance: float = Field(default=0.5, ge=0, le=1)  # 1: natural class counts, 0: equal classes
    crop: int | None = Field(default=12, gt=0)  # columns of the flow's training stretches; none: whole clips
    # A subject's other clips mostly share the target's disease, so that a style taken from them alone
    # would carry the label; the rest of the references share only source and device.
    same_subject: float = Field(default=0.5, ge=0, le=1)
    # Share of the Resp-MLLM's targets that are cut in two, one part the target, the other its reference.
    disjoint_crop: float = Field(default=0.0, ge=0, le=1)


class GeneratorPretrainConfig(Strict):
    """Training of both networks."""

    tasks: tuple[str, ...] = ("disease16", "icbhi4")
    codebook: int = Field(default=256, gt=1)
    preprocess: Preprocess = Preprocess()
    codec: CodecConfig = MelConfig()
    mllm: MLLMSize = MLLMSize()
    flow: FlowSize = FlowSize()
    draw: DrawConfig = DrawConfig()
    # Whether real and simulated clips of a class are two classes to the draws of clips to learn from: the few
    # real ones are then drawn more often.
    collections: bool = False
    mllm_fit: FitConfig = FitConfig(steps=600, batch_size=32, learning_rate=2e-3, eval_every=200)
    flow_fit: FitConfig = FitConfig(steps=800, batch_size=32, learning_rate=1e-3, eval_every=400)
    seed: int = 0
    half: bool = True  # store fp16

    def of(self, network: Network) -> dict[str, Any]:
        """What decides the training of one network, as JSON values."""
        others = {"mllm": ("flow", "flow_fit", "codec"), "flow": ("mllm", "mllm_fit")}
        settings = self.model_dump(mode="json", exclude=set(others[network]))
        if network == "mllm":
            del settings["draw"]["crop"]  # the flow's
        else:
            del settings["draw"]["disjoint_crop"]  # the Resp-MLLM's
        return settings


def solver_flaw(
    method: Method, steps: int | None, sway: float, rtol: float | None, atol: float | None
) -> str | None:
    """What of a solver's settings is another solver's, if anything is."""
    if method == "dopri5":
        if steps is not None or sway != 0:
            return "dopri5 chooses its own steps: set steps to null and sway to 0"
        return None
    if steps is None:
        return f"{method} needs a number of steps; only dopri5 chooses its own"
    if rtol is not None or atol is not None:
        return f"rtol and atol are dopri5's: {method} takes fixed steps"
    return None


class SampleConfig(Strict):
    """How clips are drawn from trained networks."""

    # Guidance sharpens the units' logits; a little heat keeps clips of a class apart from one another.
    temperature: float = Field(default=1.25, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    # Of the units' logits, away from those without label or style; 1: plain conditional logits; none: the
    # label's as the Resp-MLLM's weights say, no style's.
    label_guidance: float | None = Field(default=None, ge=0)
    style_guidance: float | None = Field(default=None, ge=0)
    steps: int | None = Field(default=4, ge=1)  # null: as the adaptive method dopri5 wants
    method: Method = "midpoint"
    rtol: float | None = Field(default=None, gt=0)  # of dopri5
    atol: float | None = Field(default=None, gt=0)
    # Deviation of the starting noise. Below 1 it trades variety for less of the noise that a decoder trained
    # for few steps leaves on the mel.
    noise: float = Field(default=1.0, gt=0, le=1)
    guidance: float = Field(default=2.0, ge=0)  # 1: plain conditional field
    sway: float = Field(default=-1.0, ge=-1, le=1)  # negative: more steps near the noise
    batch: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _solver(self) -> Self:
        flaw = solver_flaw(self.method, self.steps, self.sway, self.rtol, self.atol)
        if flaw is not None:
            raise ValueError(flaw)
        return self

    @model_serializer(mode="wrap")
    def _asked(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Options that are off are left out, so that clips drawn without them keep their record and name."""
        fields = type(self).model_fields
        return {k: v for k, v in handler(self).items() if v is not None or fields[k].default is not None}
