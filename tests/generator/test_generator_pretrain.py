from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generator_fixtures import CODEBOOK, LABELS, FakeStore

from generator.config import FlowSize, GeneratorPretrainConfig, MLLMSize
from generator.decoder import FlowDecoder
from generator.mllm import RespMLLM
from generator.pretrain import train_flow, train_mllm
from resp229k.audio import Preprocess
from resp229k.corpus import Corpus
from training.files import read_json
from training.fitconfig import FitConfig


@pytest.fixture
def config() -> GeneratorPretrainConfig:
    fit = FitConfig(steps=60, batch_size=8, learning_rate=5e-3, eval_every=30)
    return GeneratorPretrainConfig(
        codebook=CODEBOOK,
        preprocess=Preprocess(seconds=1.0),
        mllm=MLLMSize(hidden=32, layers=2, heads=2, kv_heads=1, intermediate=64, style_tokens=2),
        flow=FlowSize(dim=32, layers=2, heads=2, unit_dim=4),
        mllm_fit=fit,
        flow_fit=fit.model_copy(update={"steps": 40, "eval_every": None}),
    )


@pytest.mark.slow
def test_language_model_beats_the_unigram(
    corpus: Corpus, store: FakeStore, config: GeneratorPretrainConfig, tmp_path: Path
) -> None:
    metrics = train_mllm([corpus], store, config, tmp_path / "mllm")
    assert metrics["nats_per_unit"] < 0.6 * metrics["unigram_nats_per_unit"]
    model = RespMLLM.from_pretrained(tmp_path / "mllm")
    assert model.config.labels == LABELS
    assert model.provenance.subjects == sorted(corpus.subjects)
    assert model.provenance.notes["beats"] == store.weights.model_dump()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mllm"]
    assert read_json(tmp_path / "mllm" / "metrics.json")["steps"] == 60


def test_training_is_deterministic(
    corpus: Corpus, store: FakeStore, config: GeneratorPretrainConfig, tmp_path: Path
) -> None:
    short = config.model_copy(update={"mllm_fit": FitConfig(steps=3, batch_size=4)})
    for name in ("a", "b"):
        torch.manual_seed(len(name) if name == "a" else 99)  # what ran before must not matter
        train_mllm([corpus], store, short, tmp_path / name)
    a, b = (RespMLLM.from_pretrained(tmp_path / name) for name in ("a", "b"))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("train", [train_mllm, train_flow])
def test_real_clips_have_their_share_of_every_training(
    train: Callable[..., Any], corpus: Corpus, store: FakeStore, config: GeneratorPretrainConfig,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    seen: list[list[float]] = []

    def stop(*_: Any, weights: np.ndarray, **__: Any) -> None:
        seen.append(weights.tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr("generator.pretrain.fit", stop)
    # One real clip among simulated ones, in training.
    clips = [clip.model_copy(update={"source": "sim0-A"}) for clip in corpus.clips]
    mixed = Corpus(corpus.folder, [corpus.clips[0], *clips[1:]])
    for collections in (False, True):
        with pytest.raises(KeyboardInterrupt):
            settings = config.model_copy(update={"collections": collections})
            train([mixed], store, settings, tmp_path / "out")
    even, apart = seen
    real = int(np.argmax(apart))
    assert apart[real] > 1.5 * even[real] and sum(apart) == pytest.approx(sum(even))


@pytest.mark.slow
def test_flow_decoder_learns(
    corpus: Corpus, store: FakeStore, config: GeneratorPretrainConfig, tmp_path: Path
) -> None:
    metrics = train_flow([corpus], store, config, tmp_path / "flow")
    history = [h["loss"] for h in read_json(tmp_path / "flow" / "metrics.json")["history"] if "loss" in h]
    assert history[-1] < 0.8 * history[0]
    assert metrics["texture_generated"] > 0
    assert FlowDecoder.from_pretrained(tmp_path / "flow").config.labels == LABELS
