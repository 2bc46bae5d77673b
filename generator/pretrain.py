"""Train the two networks of the generator on cached features and units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from generator.codec import make_codec
from generator.config import FlowConfig, GeneratorPretrainConfig, Grounding, MLLMConfig
from generator.data import First, MelPairs, Mels, UnitPairs, collate, unigram_entropy
from generator.decoder import FlowDecoder
from generator.metrics import compare_frames, frame_variance, mel_distance, spectrum_distance, texture
from generator.mllm import RespMLLM
from generator.targets import Store, Targets, divide
from resp229k.corpus import Corpus
from training.files import write_json
from training.fit import fit
from training.model import Model, Provenance
from training.seeds import derive, isolated


def train_mllm(
    corpora: Sequence[Corpus], store: Store, config: GeneratorPretrainConfig, out: Path
) -> dict[str, Any]:
    """Train a Resp-MLLM and write it, with ``metrics.json``, to ``out``.

    Args:
        corpora: clips with labels of ``config.tasks``; training takes the splits ``config.draw.splits``,
            validation (choice of weights, figures) ``config.draw.valid``.
        store: features and units of all their clips.
        config: sizes and schedule.
        out: weights folder.

    Returns:
        metrics: nats per unit on the validation clips, the unigram's beside it, steps.

    Raises:
        DataError: too few clips.
    """
    train, valid = divide(corpora, config.tasks, config.draw)
    with isolated(derive(config.seed, "mllm")):
        # A prompt may tell of the events that were heard in training, and of no others.
        told: dict[str, Any] = {"kinds": train.kinds} if config.mllm.events else {}
        model = RespMLLM(MLLMConfig(**dict(config.mllm), **dict(_grounding(train, store, config)), **told))
    held_out = First(UnitPairs(valid, store, model), config.draw.valid_clips)
    result = fit(
        model,
        UnitPairs(train, store, model),
        collate=collate,
        config=config.mllm_fit,
        out=out.with_name(f"{out.name}.fit"),
        valid=held_out,
        metric=lambda outputs: -nats_per_unit(outputs),
        weights=train.weights(collections=config.collections),
        description="Resp-MLLM",
    )
    metrics = {
        "nats_per_unit": -float(result.best_metric or 0.0),
        "unigram_nats_per_unit": unigram_entropy(train, store, config, held_out),
        "steps": result.steps,
        "best_step": result.best_step,
        "clips": len(train.clips),
        "parameters": parameters(model),
    }
    return _save(model, train, valid, store, metrics, config, out, result.history)


def train_flow(
    corpora: Sequence[Corpus], store: Store, config: GeneratorPretrainConfig, out: Path
) -> dict[str, Any]:
    """Train a flow decoder and write it, with ``metrics.json``, to ``out``; arguments as in :func:`train_mllm`.

    Returns:
        metrics: validation loss; figures of generated validation clips (:func:`decoder_figures`); steps.

    Raises:
        DataError: as :func:`train_mllm`.
    """
    train, valid = divide(corpora, config.tasks, config.draw)
    with isolated(derive(config.seed, "flow")):
        model = FlowDecoder(
            FlowConfig(**dict(config.flow), **dict(_grounding(train, store, config)), codec=config.codec)
        )
    mels = Mels(make_codec(config.codec), config.preprocess)
    held_out = First(MelPairs(valid, store, model, mels), config.draw.valid_clips)
    result = fit(
        model,
        MelPairs(train, store, model, mels, config.draw.crop),
        collate=collate,
        config=config.flow_fit,
        out=out.with_name(f"{out.name}.fit"),
        valid=held_out,
        metric=lambda outputs: -float(torch.cat([output["error"] for output in outputs]).mean()),
        weights=train.weights(collections=config.collections),
        description="flow decoder",
    )
    metrics = {
        "loss": -float(result.best_metric or 0.0),
        **decoder_figures(model, First(held_out, 64), seed=config.seed),
        "steps": result.steps,
        "best_step": result.best_step,
        "clips": len(train.clips),
        "parameters": parameters(model),
    }
    return _save(model, train, valid, store, metrics, config, out, result.history)


def nats_per_unit(outputs: Sequence[Any]) -> float:
    """Mean cross-entropy per unit over the outputs of :class:`RespMLLM`."""
    total = sum(float(output["nll"].sum()) for output in outputs)
    return total / sum(float(output["units"].sum()) for output in outputs)


def decoder_figures(
    model: FlowDecoder, samples: Any, *, seed: int, guidance: float = 2.0
) -> dict[str, float]:
    """Whether clips decoded from their real units in another clip's style are noise, blur, or neither.

    Args:
        model: the decoder.
        samples: of :class:`generator.data.MelPairs`.
        seed: of the draws of style and noise.
        guidance: scale.

    Returns:
        texture (mean |difference over time|), variance (of all values; of each over time), for real and
        generated frames, their ratios, and the distance of the modulation spectra in dB: too high is noise,
        too low is blur; L1 between frames, and between their means over time (timbre); deviation of the real
        frames as the flow sees them, which ``config.residual`` should make about 1.
    """
    with isolated(derive(seed, "figures")):
        chosen = [samples[index] for index in range(len(samples))]
        batch = collate(chosen)
        noise = [torch.randn(sample["mel"].shape) for sample in chosen]
    condition = {name: value for name, value in batch.items() if name not in ("mel", "frames")}
    made = model.sample(noise=noise, guidance=guidance, **condition)  # type: ignore[arg-type]
    fake = [frames.numpy() for frames in made]
    real = [sample["mel"].numpy() for sample in chosen]
    seen = [model.residual(sample["mel"][None], sample["spectrum"][None]) for sample in chosen]
    figures = {}
    for name, frames in (("real", real), ("generated", fake)):
        figures[f"texture_{name}"] = texture(frames)
        figures[f"variance_{name}"], figures[f"time_variance_{name}"] = frame_variance(frames)
    return {
        **figures,
        **compare_frames(fake, real, model.config.codec.frame_rate),
        "frame_l1": float(np.mean([mel_distance(a, b) for a, b in zip(fake, real, strict=True)])),
        "timbre_l1": spectrum_distance(fake, real),
        "flow_deviation": float(torch.cat([x.flatten() for x in seen]).square().mean().sqrt()),
    }


def parameters(model: nn.Module) -> int:
    """Parameters, shared ones once; of adapters with the base that they stand beside."""
    return sum(p.numel() for p in model.parameters())


def _grounding(train: Targets, store: Store, config: GeneratorPretrainConfig) -> Grounding:
    """What the networks take from the data."""
    grids = [store.units(clip.clip_id).shape for clip, _ in train.clips]
    return Grounding(
        labels=train.labels(),
        feature_dim=store.features(train.clips[0][0].clip_id).shape[2],
        rows=grids[0][1],
        columns=max(shape[0] for shape in grids),
        codebook=config.codebook,
        preprocess=config.preprocess,
    )


def _save(
    model: Model,
    train: Targets,
    valid: Targets,
    store: Store,
    metrics: dict[str, Any],
    config: GeneratorPretrainConfig,
    out: Path,
    history: list[dict[str, float]],
) -> dict[str, Any]:
    model.provenance = Provenance.of(
        train.subjects | valid.subjects,
        seed=config.seed,
        notes={"metrics": metrics, "beats": store.weights.model_dump()},
    )
    model.save_pretrained(out, half=config.half)
    write_json(out / "metrics.json", {**metrics, "history": history})
    return metrics
