"""Names of the baselines and of the ablation's rows. Light: no torch, no scikit-learn in here."""

from __future__ import annotations

import re
from itertools import product
from typing import Literal, NamedTuple

from diagnoser.config import DiagnoserTrainConfig
from training.config import Strict
from training.errors import ConfigError

WEAVING = "weaving"


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        about: one line on what it is.
        seeded: whether a seed changes anything; without, one is enough.
        budget: whether it reads the diagnoser's config: sizes, steps, batch.
        needs: rows whose answers it combines.
    """

    about: str
    seeded: bool = True
    budget: bool = True
    needs: tuple[str, ...] = ()


class Variant(Strict):
    """One configuration of the ablation's grid.

    Attributes:
        fusion: ``weaving`` puts text and audio into one sequence; ``late`` reads each with a Longformer of
            its own, of the same sizes, and joins their two summaries.
        text: the narrative, the same fields as ``field: value`` (raw), or nothing.
        anchors: whether audio places attend globally.
    """

    fusion: Literal["weaving", "late"] = "weaving"
    text: Literal["none", "raw", "narrative"] = "narrative"
    anchors: bool = True

    @property
    def name(self) -> str:
        """E.g. ``late, raw, no anchors``."""
        return f"{self.fusion}, {self.text}, {'anchors' if self.anchors else 'no anchors'}"

    def applied(self, config: DiagnoserTrainConfig) -> DiagnoserTrainConfig:
        """The diagnoser's config with this variant's anchors, and whether it reads.

        Raises:
            ConfigError: anchors are asked for and the config has none.
        """
        if self.anchors and config.model.anchors is None:
            raise ConfigError(
                "model.anchors is null: there is nothing to take away", cure="set model.anchors"
            )
        sizes = config.model if self.anchors else config.model.model_copy(update={"anchors": None})
        return config.model_copy(update={"model": sizes, "text": self.text != "none"})


# Without text there is nothing to fuse: both fusions are the same network.
VARIANTS = {
    how.name: how
    for how in (
        Variant.model_validate({"fusion": fusion, "text": text, "anchors": anchors})
        for fusion, text, anchors in product(("late", "weaving"), ("none", "raw", "narrative"), (False, True))
        if (fusion, text) != ("late", "none")
    )
}
FULL = Variant().name

ABLATION: dict[str, Row] = {name: Row("a variant of the diagnoser") for name in VARIANTS}

BASELINES: dict[str, Row] = {
    "majority": Row("the commonest training class", seeded=False, budget=False),
    "source-prior": Row("the commonest training class of the source and device", seeded=False, budget=False),
    "metadata-only": Row(
        "gradient boosting on the fields that the narrative tells", seeded=False, budget=False
    ),
    "text-words": Row("TF-IDF of the narrative and a logistic regression", budget=False),
    "text-only": Row("the diagnoser's network with the audio hidden"),
    "trees": Row("hand-made features of the sound and extremely randomised trees", budget=False),
    "cnn": Row("a log-mel CNN from scratch"),
    "ast": Row("an Audio Spectrogram Transformer of the diagnoser's sizes, from scratch"),
    "pooled": Row("pooled BEATs features and a logistic regression", seeded=False),
    "pooled-mlp": Row("pooled BEATs features and an MLP"),
    "audio-only": Row("the diagnoser without narratives"),
    "late-concat": Row("pooled BEATs features beside the mean word embedding, and an MLP"),
    "late-vote": Row(
        "weighted mean of the log-probabilities of audio-only and text-only",
        needs=("audio-only", "text-only"),
    ),
    WEAVING: Row("the diagnoser"),
}

ROWS = BASELINES | ABLATION
SAME = {FULL: WEAVING, Variant(text="none").name: "audio-only"}
"""Rows of the ablation that are baselines too: they are trained once."""


def get_row(name: str) -> Row:
    """A row by name.

    Raises:
        ConfigError: there is no such row.
    """
    if name not in ROWS:
        raise ConfigError(f"unknown row {name!r}", cure=f"use some of: {', '.join(BASELINES)}")
    return ROWS[name]


def slug(name: str) -> str:
    """A name as that of a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
