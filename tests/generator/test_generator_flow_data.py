"""Training pairs of the flow decoder, for codecs of any frame rate and size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_fixtures import CODEBOOK, FakeStore

import generator.pretrain
from generator.codec_config import CodecConfig, EncodecConfig, MelConfig, VocosConfig
from generator.config import DrawConfig, FlowConfig, FlowSize, GeneratorPretrainConfig
from generator.data import MelPairs, Mels, collate, prefix_length, spectrum_of
from generator.decoder import FlowDecoder
from generator.pretrain import train_flow
from generator.targets import Targets
from resp229k.audio import RATE, Preprocess
from resp229k.corpus import Corpus
from training.files import read_json
from training.fitconfig import FitConfig

TASKS = ("disease16", "icbhi4")


class FakeCodec:
    """Frames whose first value is the time of their middle, s, and whose second is the wave's level there."""

    def __init__(self, config: CodecConfig):
        self.config = config

    def length(self, samples: int) -> int:
        return math.ceil(samples / RATE * self.config.frame_rate)

    def encode(self, wave: np.ndarray) -> np.ndarray:
        length = self.length(wave.size)
        frames = np.zeros((length, self.config.dim), dtype=np.float32)
        frames[:, 0] = (np.arange(length) + 0.5) / self.config.frame_rate
        frames[:, 1:] = np.random.default_rng(wave.size).normal(size=(length, self.config.dim - 1))
        return frames

    def decode(self, frames: np.ndarray, *, samples: int | None = None, seed: int = 0) -> np.ndarray:
        raise NotImplementedError


class TimedStore(FakeStore):
    """Units that are the number of their column."""

    def units(self, clip_id: str) -> np.ndarray:
        return np.tile(np.arange(self.columns(clip_id))[:, None], (1, 8))


def pairs(corpus: Corpus, config: FlowConfig, crop: int | None) -> MelPairs:
    targets = Targets([(c, corpus) for c in corpus.clips if c.split == "train"], TASKS, DrawConfig())
    mels = Mels(FakeCodec(config.codec), Preprocess(seconds=1.0))
    return MelPairs(targets, TimedStore(corpus.clips), FlowDecoder(config), mels, crop)


@pytest.mark.parametrize(
    "codec", [MelConfig(), VocosConfig(), EncodecConfig(), MelConfig(hop=186, mels=7), MelConfig(hop=1000)]
)
def test_a_crop_is_the_same_stretch_of_time_in_units_and_frames(
    corpus: Corpus, flow_config: FlowConfig, codec: CodecConfig
) -> None:
    config = flow_config.model_copy(update={"codec": codec})
    cropped = pairs(corpus, config, crop=2)
    torch.manual_seed(0)
    starts = set()
    for index in range(len(cropped)):
        sample = cropped[index]
        first, half = int(sample["units"][0, 0]), 0.5 / codec.frame_rate
        assert sample["units"][:, 0].tolist() == [first, first + 1]
        assert abs(len(sample["mel"]) - 0.32 * codec.frame_rate) < 1
        times = sample["mel"][:, 0]
        tolerance = half + 1e-3  # fp16 times, and the nearest frame
        assert abs(float(times[0]) - half - 0.16 * first) <= tolerance
        assert abs(float(times[-1]) + half - 0.16 * (first + 2)) <= tolerance
        starts.add(first)
    assert len(starts) > 2
    whole = pairs(corpus, config, crop=None)[0]
    assert len(whole["mel"]) == FakeCodec(codec).length(round(0.64 * RATE))


def test_given_frames_are_a_stretch_of_the_reference_never_of_the_target(
    corpus: Corpus, flow_config: FlowConfig
) -> None:
    config = FlowConfig.model_validate(flow_config.model_dump() | {"prefix": 0.3})
    drawn = pairs(corpus, config, crop=3)
    torch.manual_seed(0)
    samples = [drawn[index % len(drawn)] for index in range(60)]
    lengths = [len(sample["prefix"]) for sample in samples]
    assert min(lengths) == 0 and max(lengths) == prefix_length(0.3, 24, 40) == 7
    steps = [sample["prefix"][:, 0].diff() for sample in samples if len(sample["prefix"]) > 1]
    assert all(torch.allclose(step, torch.full_like(step, 0.02), atol=1e-3) for step in steps)
    assert len({round(float(s["prefix"][0, 0]), 2) for s in samples if len(s["prefix"])}) > 3
    batch = collate(samples[:4])
    assert batch["prefix_frames"].tolist() == lengths[:4]
    assert drawn.model(**batch).loss > 0
    assert prefix_length(0.3, 200, 20) == 20


def test_spectra_are_kept_and_references_are_drawn_evenly_from_all_others(
    corpus: Corpus, flow_config: FlowConfig
) -> None:
    drawn = pairs(corpus, flow_config, crop=None)
    clip = drawn.targets.clips[0][0]
    kept = drawn.mels.spectrum(clip, corpus)
    assert np.array_equal(kept, spectrum_of(drawn.mels(clip, corpus)))
    assert drawn.mels.spectrum(clip, corpus) is kept
    targets = Targets(drawn.targets.clips, TASKS, DrawConfig(same_subject=0.0))
    rng = np.random.default_rng(0)
    found = [targets.reference(clip, rng)[0].clip_id for _ in range(600)]
    others = [c.clip_id for c, _ in targets.clips if c.device == clip.device and c.clip_id != clip.clip_id]
    assert set(found) == set(others)
    assert min(found.count(name) for name in others) > 0.6 * 600 / len(others)


@pytest.mark.parametrize(
    "chosen",
    [
        FlowSize(dim=32, layers=1, heads=2, unit_dim=4, predict="x", prefix=0.3),
        FlowSize(dim=32, layers=1, heads=2, predict="velocity", content="none", times="logit_normal"),
    ],
)
def test_latents_train_with_averaged_weights(
    corpus: Corpus, store: FakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: FlowSize
) -> None:
    monkeypatch.setattr(generator.pretrain, "make_codec", FakeCodec)
    config = GeneratorPretrainConfig(
        codebook=CODEBOOK,
        preprocess=Preprocess(seconds=1.0),
        codec=EncodecConfig(),
        flow=chosen,
        draw=DrawConfig(crop=3),
        flow_fit=FitConfig(steps=25, batch_size=8, learning_rate=5e-3, ema=0.9, log_every=5),
    )
    metrics = train_flow([corpus], store, config, tmp_path / "flow")
    history = [h["loss"] for h in read_json(tmp_path / "flow" / "metrics.json")["history"] if "loss" in h]
    assert len(history) == 5
    assert history[-1] < history[0]
    model = FlowDecoder.from_pretrained(tmp_path / "flow")
    assert model.config.codec == EncodecConfig()
    assert model.flow.backbone.leave.out_features == 128
    assert {"variance_real", "time_variance_generated", "variance_ratio", "modulation_db"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
