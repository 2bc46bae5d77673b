from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from generator_fixtures import CODEBOOK, LABELS, FakeStore

from generator.codec import MelCodec
from generator.config import DrawConfig, FlowConfig, GeneratorPretrainConfig, MLLMConfig
from generator.data import MelPairs, Mels, UnitPairs, collate, unigram_entropy
from generator.decoder import FlowDecoder
from generator.mllm import RespMLLM
from generator.targets import Targets, divide
from resp229k.audio import Preprocess
from resp229k.corpus import Corpus
from training.errors import ConfigError, DataError

TASKS = ("disease16", "icbhi4")


def everything(corpus: Corpus, draw: DrawConfig | None = None) -> Targets:
    clips = [(clip, corpus) for clip in corpus.clips if clip.split == "train"]
    return Targets(clips, TASKS, draw or DrawConfig())


@pytest.mark.parametrize("same_subject", [0.0, 0.5, 1.0])
def test_the_reference_is_never_the_target(corpus: Corpus, same_subject: float) -> None:
    targets = everything(corpus, DrawConfig(same_subject=same_subject))
    rng = np.random.default_rng(0)
    same = 0
    for target in targets.items * 20:
        reference, _ = targets.reference(target.clip, rng)
        assert reference.clip_id != target.clip.clip_id
        assert reference.source == target.clip.source
        same += reference.subject_id == target.clip.subject_id
    assert same == (len(targets.items) * 20 if same_subject == 1 else same)
    assert same_subject != 0 or same < len(targets.items) * 20 * 0.3


def test_a_single_clip_has_no_reference(corpus: Corpus) -> None:
    with pytest.raises(DataError, match="another clip for its style"):
        Targets([(corpus.clips[0], corpus)], TASKS, DrawConfig())


def test_division_is_by_split_and_validation_keeps_to_known_labels(corpus: Corpus) -> None:
    train, valid = divide([corpus], TASKS, DrawConfig())
    assert {clip.split for clip, _ in train.clips} == {"train"}
    assert {clip.split for clip, _ in valid.clips} == {"select"}
    narrow = Corpus(
        corpus.folder,
        [c for c in corpus.clips if c.split == "select" or c.labels["icbhi4"] == "normal"],
    )
    _, valid = divide([narrow], TASKS, DrawConfig())
    assert {item.label for item in valid.items} == {*LABELS["disease16"], "normal"}
    with pytest.raises(DataError, match="splits"):
        divide([corpus], TASKS, DrawConfig(valid="plan"))


def test_labels_and_weights(corpus: Corpus) -> None:
    targets = everything(corpus, DrawConfig(balance=0.0))
    assert targets.labels() == LABELS
    mass: Counter[str] = Counter()
    for item, weight in zip(targets.items, targets.weights(), strict=True):
        mass[item.label] += weight
    assert len({round(value, 6) for value in mass.values()}) == 1


def test_real_clips_of_a_class_may_have_a_share_of_their_own(corpus: Corpus) -> None:
    def share(balance: float, collections: bool) -> float:
        clips = [(c.model_copy(update={"source": f"sim{i}-A"}), corpus) for i, c in enumerate(corpus.clips)]
        clips[0] = (clips[0][0].model_copy(update={"source": "ward"}), corpus)
        targets = Targets(clips, ("disease16",), DrawConfig(balance=balance))
        weights = targets.weights(collections=collections)
        label = clips[0][0].labels["disease16"]
        own = [(i.clip.source, w) for i, w in zip(targets.items, weights, strict=True)
               if i.label == label]  # fmt: skip
        return sum(w for source, w in own if source == "ward") / sum(w for _, w in own)

    label = corpus.clips[0].labels["disease16"]
    count = sum(clip.labels["disease16"] == label for clip in corpus.clips)
    assert count > 2
    assert share(0.5, False) == pytest.approx(1 / count)
    # 1 real and n - 1 simulated clips, whatever the number of simulated sources: 1 to the root of n - 1.
    assert share(0.5, True) == pytest.approx(1 / (1 + (count - 1) ** 0.5))
    assert share(0.0, True) == pytest.approx(0.5)


def test_samples_and_batches(
    corpus: Corpus, store: FakeStore, mllm_config: MLLMConfig, flow_config: FlowConfig
) -> None:
    targets = everything(corpus)
    torch.manual_seed(0)
    pairs = UnitPairs(targets, store, RespMLLM(mllm_config))
    batch = collate([pairs[i] for i in range(3)])
    assert batch["units"].shape == (3, 5, 8)
    assert batch["columns"].tolist() == [4, 5, 5]
    assert pairs.model(**batch).loss > 0
    decoder = FlowDecoder(flow_config)
    frames = MelPairs(targets, store, decoder, Mels(MelCodec(), Preprocess(seconds=1.0)))
    batch = collate([frames[i] for i in range(3)])
    assert batch["frames"].tolist() == [32, 40, 40]
    assert batch["spectrum"].shape == (3, 160)
    assert decoder(**batch).loss > 0
    batch = collate([MelPairs(targets, store, decoder, frames.mels, crop=3)[i] for i in range(3)])
    assert batch["columns"].tolist() == [3, 3, 3]
    assert batch["frames"].tolist() == [24, 24, 24]
    torch.manual_seed(5)
    first = frames[1]["features"]
    torch.manual_seed(5)
    assert torch.equal(frames[1]["features"], first)


def test_units_outside_the_codebook_are_refused(
    corpus: Corpus, store: FakeStore, mllm_config: MLLMConfig
) -> None:
    small = RespMLLM(mllm_config.model_copy(update={"codebook": 4}))
    with pytest.raises(ConfigError, match="codebook of 4"):
        UnitPairs(everything(corpus), store, small)[0]


def test_unigram_entropy_of_even_units(corpus: Corpus, store: FakeStore, tmp_path: Path) -> None:
    class Even(FakeStore):
        def units(self, clip_id: str) -> np.ndarray:
            return np.arange(self.columns(clip_id) * 8).reshape(-1, 8) % 8

    targets = everything(corpus)
    config = GeneratorPretrainConfig(codebook=CODEBOOK)
    even = Even(corpus.clips)
    valid = [{"units": torch.from_numpy(even.units("train0"))}]
    assert unigram_entropy(targets, even, config, valid) == pytest.approx(np.log(8), abs=0.05)
