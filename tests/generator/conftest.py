"""A small labelled corpus of noise bursts on disk, and a store of made-up features and units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from generator_fixtures import CODEBOOK, DIM, LABELS, ROWS, FakeStore

from generator.config import FlowConfig, MLLMConfig
from resp229k.audio import RATE, Preprocess, write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder: Path = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    clips = []
    for split, count in (("train", 12), ("select", 4)):
        for i in range(count):
            seconds = 0.8 if i % 3 else 0.64
            name = f"{split}{i}"
            wave = rng.normal(size=round(seconds * RATE)).astype(np.float32) * 0.05
            write_wav(folder / f"{name}.wav", wave, synthetic=False)
            clips.append(
                Clip(
                    clip_id=name,
                    recording_id=name,
                    subject_id=f"t-{split}:{i // 2}",
                    source=f"t-{split}",
                    split=split,
                    path=f"{name}.wav",
                    start=0.0,
                    end=seconds,
                    device=f"d{i % 2}",
                    sample_rate=RATE,
                    labels={
                        "disease16": LABELS["disease16"][i % 2],
                        "icbhi4": LABELS["icbhi4"][i // 2 % 2],
                    },
                )
            )
    corpus = Corpus(folder, clips)
    corpus.save()
    return corpus


@pytest.fixture(scope="session")
def store(corpus: Corpus) -> FakeStore:
    return FakeStore(corpus.clips)


@pytest.fixture
def mllm_config() -> MLLMConfig:
    return MLLMConfig(
        hidden=32,
        layers=2,
        heads=4,
        kv_heads=2,
        intermediate=48,
        style_tokens=3,
        labels=LABELS,
        feature_dim=DIM,
        rows=ROWS,
        columns=5,
        codebook=CODEBOOK,
        preprocess=Preprocess(seconds=1.0),
    )


@pytest.fixture
def flow_config() -> FlowConfig:
    return FlowConfig(
        dim=32,
        layers=2,
        heads=2,
        unit_dim=8,
        labels=LABELS,
        feature_dim=DIM,
        rows=ROWS,
        columns=5,
        codebook=CODEBOOK,
        preprocess=Preprocess(seconds=1.0),
    )
