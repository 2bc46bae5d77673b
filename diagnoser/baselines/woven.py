"""Rows made of the diagnoser's own network: itself, one modality hidden, and the ablation's variants."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from diagnoser.augment import training_collate
from diagnoser.baselines.choose import Fitted, calibrated
from diagnoser.baselines.data import SPLITS, PartData
from diagnoser.baselines.networks import LateFusion, deafen
from diagnoser.baselines.neural import budget, shift_of, train_network, weights_of
from diagnoser.baselines.rows import Variant
from diagnoser.config import DiagnoserConfig, DiagnoserTrainConfig
from diagnoser.data import ClipDataset, Silenced, collate, feature_statistics
from diagnoser.losses import Learner
from diagnoser.model import Diagnoser
from diagnoser.predict import Predictor
from diagnoser.text import Words
from diagnoser.train import train_diagnoser
from training.files import read_json
from training.seeds import derive, seed_all

KEPT = ("steps", "best_step", "temperature")  # of a diagnoser's metrics


def variant(data: PartData, seed: int, how: Variant) -> Fitted:
    """One row of the ablation."""
    config = how.applied(data.seeded(seed))
    if how.fusion == "weaving" and how.text != "raw":
        return as_trained(data, config, how.name)
    texts = {
        split: data.raw(split) if how.text == "raw" else data.narratives(split, seed) for split in SPLITS
    }
    if how.fusion == "weaving":
        return from_texts(data, config, texts, how.name)
    config = one_rate(data, config)
    return from_texts(data, config, texts, how.name, network=LateFusion)


def weaving(data: PartData, seed: int) -> Fitted:
    """The diagnoser."""
    return as_trained(data, data.seeded(seed), "weaving")


def audio_only(data: PartData, seed: int) -> Fitted:
    """The diagnoser without narratives."""
    return as_trained(data, data.seeded(seed).model_copy(update={"text": False}), "audio-only")


def text_only(data: PartData, seed: int) -> Fitted:
    """The diagnoser's network on narratives alone: not one column of audio, in training or after."""
    texts = {split: data.narratives(split, seed) for split in SPLITS}

    def deaf(config: DiagnoserConfig) -> Diagnoser:
        model = Diagnoser(config)
        deafen(model)
        return model

    config = one_rate(data, data.seeded(seed))
    return from_texts(data, config, texts, "text-only", network=deaf, deaf=True)


def one_rate(data: PartData, config: DiagnoserTrainConfig) -> DiagnoserTrainConfig:
    """The config for a network whose parts get one modality each: none may be hidden whole."""
    sizes = config.model.model_copy(update={"whole_text_dropout": 0.0, "whole_audio_dropout": 0.0})
    return config.model_copy(update={"model": sizes, "fit": budget(data, config.seed).fit})


def as_trained(data: PartData, config: DiagnoserTrainConfig, name: str) -> Fitted:
    """Train with the command's own function and predict as a user would."""
    folder = data.scratch(f"{name} model", config.seed)
    shutil.rmtree(folder, ignore_errors=True)
    train_diagnoser(config, folder, store=data.store)
    predictor, metrics = Predictor.load(folder), read_json(folder / "metrics.json")
    said = {
        split: predictor.predict_corpus(data.part.corpus.subset(split=split), data.store)
        for split in ("select", "test")
    }
    trainable = sum(p.numel() for p in predictor.model.parameters() if p.requires_grad)
    shutil.rmtree(folder)
    notes = {"parameters": trainable, **{key: metrics[key] for key in KEPT}}
    return Fitted(said["select"], said["test"], notes)


def from_texts(
    data: PartData,
    config: DiagnoserTrainConfig,
    texts: dict[str, list[str]],
    name: str,
    *,
    network: Callable[[DiagnoserConfig], Any] = Diagnoser,
    deaf: bool = False,
) -> Fitted:
    """Train as :func:`diagnoser.train.train_diagnoser` does, on texts of another kind.

    Args:
        data: clips and features.
        config: one training's.
        texts: per split, one for each clip.
        name: of the row.
        network: makes the model.
        deaf: whether it gets no audio.
    """
    words = Words.train(texts["train"], config.model.vocabulary)
    index = data.store.index
    sizes = DiagnoserConfig(
        task=data.part.task,
        classes=data.classes,
        feature_dim=index.dim,
        feature_rows=index.rows,
        sizes=config.model,
    )
    seed_all(derive(config.seed, "weights"))
    model = network(sizes)
    store: Any = Silenced(data.store) if deaf else data.store
    splits = {
        split: ClipDataset(
            [clip.clip_id for clip in data.clips[split]],
            store,
            words.encode_all(texts[split], config.model.text_tokens),
        )
        for split in SPLITS
    }
    splits["train"].labels = data.labels["train"]
    splits["train"].weights = weights_of(data, config)
    if not deaf:
        model.standardise(*feature_statistics(splits["train"]))
    learner = Learner(model, shift_of(data, config))
    augmented = collate if deaf else training_collate(config, model, splits["train"])
    answer, notes = train_network(learner, splits, data, config, name, collate, augmented)
    return calibrated(data, answer, notes)
