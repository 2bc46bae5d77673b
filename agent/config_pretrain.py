"""Config of ``resp-agent train pretrain``. Free of torch."""

from __future__ import annotations

from pydantic import Field

from beats.config import BeatsPretrainConfig, JudgeTrainConfig
from generator.config import GeneratorPretrainConfig
from resp229k.simulate.config import SIMULATED
from training.config import Strict


class HeardConfig(Strict):
    """What an encoder hears.

    Attributes:
        root: folder that holds ``SPRSound/``; none: the simulator alone.
        encoder_events: simulated clips of the encoder, of all simulated classes.
        seconds: length of a simulated clip, s.
        held_out: share of the simulated sources and of the real subjects that is kept out of training
            for early stopping and for the figures of the model card.
    """

    root: str | None = "${RESP_DATA}"
    encoder_events: int = Field(default=3600, gt=0)
    seconds: float = Field(default=4.0, ge=1)
    held_out: float = Field(default=0.12, gt=0, lt=1)
    workers: int = Field(default=2, ge=1)
    seed: int = Field(default=0, ge=0)


class PretrainConfig(HeardConfig):
    """How a set of shipped weights is made.

    Attributes:
        events: simulated clips of the generator, from whose sources its validation clips are taken.
        further_events: more of them, to learn from alone: the networks' validation stays what it was without. The
            share ``held_out`` of their sources is left unused.
        judge_events: simulated clips of the judges, from sources of their own.
        classes: classes of ``disease16`` that the generator and its judge hear, and then know.
        judges: one judge per entry.
    """

    events: int = Field(default=3600, gt=0)
    further_events: int = Field(default=0, ge=0)
    judge_events: int = Field(default=2400, gt=0)
    classes: tuple[str, ...] = Field(default=SIMULATED, min_length=1)
    beats: BeatsPretrainConfig = BeatsPretrainConfig()
    judges: tuple[JudgeTrainConfig, ...] = Field(min_length=1)
    generator: GeneratorPretrainConfig = GeneratorPretrainConfig()
