"""How a network is trained. Torch-free, so that the command line can read it at once."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from training.config import Strict
from training.errors import ConfigError


class FitConfig(Strict):
    """Optimisation of one network with AdamW.

    Attributes:
        steps: optimizer steps.
        batch_size: samples per optimizer step, over all processes and accumulated micro-batches.
        accumulate: micro-batches per step and process.
        learning_rate: peak learning rate.
        warmup: share of ``steps`` over which the rate rises to its peak.
        schedule: what follows the warm-up; ``one_cycle`` is the paper's (rise from a tenth of the
            peak, cosine down to a thousandth of it).
        layer_decay: learning rate of a layer as a share of the layer's above it, for a network that knows
            its layers.
        rates: learning rate of a part of the network as a share of what it had, by the beginning of the
            parameters' names, as in ``{encoder: 0.1}``.
        ema: share kept at each step by a moving average of the weights, which is then what is validated
            and kept; none: the weights themselves.
        grad_clip: largest norm of the gradient, 0 for none.
        eval_every: steps between validations; none: only after the last step.
        patience: validations without improvement after which training stops.
        checkpoint_every: steps between resumable checkpoints; none: no checkpoints.
        log_every: steps between entries of the loss history.
        bf16: forward and backward in bfloat16 (GPU).
        deepspeed: a DeepSpeed JSON, or the name of a shipped one (``zero1``, ``zero3``).
    """

    steps: int = Field(default=400, gt=0)
    batch_size: int = Field(default=16, gt=0)
    accumulate: int = Field(default=1, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["cosine", "linear", "constant", "one_cycle"] = "cosine"
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    ema: float | None = Field(default=None, gt=0, lt=1)
    grad_clip: float = Field(default=1.0, ge=0)
    eval_every: int | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, gt=0)
    checkpoint_every: int | None = Field(default=None, gt=0)
    log_every: int = Field(default=10, gt=0)
    seed: int = Field(default=0, ge=0)
    bf16: bool = False
    deepspeed: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of accumulate {self.accumulate}")
        if self.patience is not None and self.eval_every is None:
            raise ValueError("patience counts validations: give eval_every too")
        if self.ema is not None and self.deepspeed is not None:
            raise ValueError("ema needs the whole weights on every process: not with deepspeed")
        return self

    def check_resume(self, resume: bool) -> None:
        """Refuse to resume what keeps no checkpoints; callers ask before the work that comes first.

        Raises:
            ConfigError: ``resume`` without ``checkpoint_every``.
        """
        if resume and self.checkpoint_every is None:
            raise ConfigError(
                "resume needs checkpoints, and fit.checkpoint_every is not set",
                cure="set fit.checkpoint_every, in the interrupted run too, or train without resume",
            )
