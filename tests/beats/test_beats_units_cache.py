"""Units and the feature store: deterministic, idempotent, equal to direct encoding."""

from pathlib import Path

import numpy as np
import pytest
import torch

import beats
from beats.cache import FeatureStore, StoreSet
from beats.config import UnitsConfig, beats_config
from beats.encode import encode_waves
from beats.encoder import BeatsEncoder
from beats.units import UnitTokenizer, fit_units, unit_usage
from resp229k.audio import Preprocess, write_wav
from resp229k.clip import Clip
from resp229k.corpus import Corpus
from training.errors import AudioError, CheckpointError, ConfigError, DataError


def make_corpus(folder: Path, lengths: list[int], prefix: str = "a") -> Corpus:
    rng = np.random.default_rng(len(lengths))
    clips = []
    for i, samples in enumerate(lengths):
        write_wav(folder / "audio" / f"{prefix}{i}.wav", 0.1 * rng.standard_normal(samples), synthetic=True)
        clips.append(
            Clip(
                clip_id=f"{prefix}{i}", recording_id=f"{prefix}{i}", subject_id=f"noise:{prefix}{i}",
                source="noise", split="train", path=f"audio/{prefix}{i}.wav", start=0, end=samples / 16000,
                sample_rate=16000,
            )
        )  # fmt: skip
    corpus = Corpus(folder, clips)
    corpus.save()
    return corpus


@pytest.fixture(scope="module")
def encoder() -> BeatsEncoder:
    torch.manual_seed(0)
    return BeatsEncoder(beats_config("tiny", "conv")).eval()


@pytest.fixture(scope="module")
def tokenizer(encoder) -> UnitTokenizer:
    rng = np.random.default_rng(0)
    waves = [0.1 * rng.standard_normal(16000) for _ in range(8)]
    return fit_units(
        encode_waves(encoder, waves, Preprocess()), UnitsConfig(codebook=16, dim=encoder.width), seed=0
    )


def test_units_are_nearest_and_deterministic():
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((4, 8, 5)) for _ in range(20)]
    config = UnitsConfig(codebook=8, dim=5)
    one, two = fit_units(clips, config, seed=3), fit_units(clips, config, seed=3)
    torch.testing.assert_close(one.centroids, two.centroids, atol=0, rtol=0)
    features = torch.from_numpy(np.stack(clips)).float()
    units = one.units(features)
    assert units.shape == (20, 4, 8)
    assert units.dtype == torch.int64
    slow = torch.cdist((features.view(-1, 5) - one.mean) / one.scale, one.centroids).argmin(-1)
    assert torch.equal(units.flatten(), slow)
    usage = unit_usage(list(units.numpy()), 8)
    assert 1 < usage.perplexity <= 8
    assert usage.dead == 0
    assert unit_usage([np.zeros((2, 8), int)], 8).dead == 7


def test_units_refuse_what_does_not_fit():
    config = UnitsConfig(codebook=64, dim=5)
    with pytest.raises(DataError, match="cannot give 64 units"):
        fit_units([np.zeros((1, 8, 5))], config, seed=0)
    with pytest.raises(DataError, match="4 wide"):
        UnitTokenizer(config).units(torch.zeros(1, 2, 8, 4))


def test_store_equals_direct_encoding_and_is_idempotent(tmp_path, encoder, tokenizer):
    corpus = make_corpus(tmp_path / "corpus", [16000, 3000, 40000, 64000, 90000])
    how = Preprocess(seconds=4.0)

    def build() -> FeatureStore:
        return FeatureStore.build(
            corpus, encoder=encoder, tokenizer=tokenizer, preprocess=how, folder=tmp_path / "s", batch=2
        )

    store = build()
    before = {p: p.stat().st_mtime_ns for p in store.folder.iterdir()}
    direct = encode_waves(encoder, [corpus.audio(c) for c in corpus.clips], how, batch=5)
    assert [len(x) for x in direct] == [6, 1, 15, 24, 24]
    for clip, features in zip(corpus.clips, direct, strict=True):
        stored = store.features(clip.clip_id)
        assert stored.dtype == np.float16
        assert stored.shape == features.shape
        np.testing.assert_allclose(stored.astype(np.float32), features.astype(np.float32), atol=5e-3)
        units = store.units(clip.clip_id)
        assert units.shape == features.shape[:2]
        expected = tokenizer.units(torch.from_numpy(stored.astype(np.float32)))
        np.testing.assert_array_equal(units, expected.numpy())
    again = build()
    assert {p: p.stat().st_mtime_ns for p in again.folder.iterdir()} == before
    assert "nowhere" not in store
    with pytest.raises(DataError, match="nowhere"):
        store.features("nowhere")


def test_store_key_follows_preprocessing_and_audio(tmp_path, encoder, tokenizer):
    corpus = make_corpus(tmp_path / "corpus", [16000])
    folders = set()
    for how in (Preprocess(), Preprocess(fit="loop"), Preprocess()):
        store = FeatureStore.build(
            corpus, encoder=encoder, tokenizer=tokenizer, preprocess=how, folder=tmp_path / "s"
        )
        folders.add(store.folder)
    assert len(folders) == 2
    write_wav(tmp_path / "corpus" / "audio" / "a0.wav", np.ones(16000) * 0.1, synthetic=True)
    store = FeatureStore.build(
        corpus, encoder=encoder, tokenizer=tokenizer, preprocess=how, folder=tmp_path / "s"
    )
    assert store.folder not in folders


def test_stores_chain(tmp_path, encoder, tokenizer):
    corpora = [make_corpus(tmp_path / name, [16000], prefix=name) for name in "ab"]
    chain = StoreSet(
        [
            FeatureStore.build(
                c, encoder=encoder, tokenizer=tokenizer, preprocess=Preprocess(), folder=tmp_path / "s"
            )
            for c in corpora
        ]
    )
    assert "a0" in chain
    assert "b0" in chain
    assert chain.features("b0").shape == (6, 8, encoder.width)
    assert chain.units("a0").shape == (6, 8)
    with pytest.raises(DataError, match="c0"):
        chain.units("c0")


def test_bad_recordings_are_named(tmp_path, encoder, tokenizer):
    def build(corpus: Corpus, **options) -> None:
        FeatureStore.build(
            corpus, encoder=encoder, tokenizer=tokenizer, preprocess=Preprocess(), folder=tmp_path / "s", **options
        )  # fmt: skip

    corpus = make_corpus(tmp_path / "corpus", [16000, 2000])
    with pytest.raises(AudioError, match=r"a1\.wav.*loop"):
        build(corpus)
    (tmp_path / "corpus" / "audio" / "a1.wav").write_bytes(b"RIFF but no audio")
    with pytest.raises(AudioError, match=r"a1\.wav"):
        build(corpus)
    (tmp_path / "corpus" / "audio" / "a0.wav").unlink()
    with pytest.raises(AudioError, match=r"a0\.wav"):
        build(corpus)
    assert list((tmp_path / "s").glob("*")) == []
    with pytest.raises(DataError, match="no clips"):
        build(Corpus(tmp_path, []))
    with pytest.raises(ConfigError, match="max_gb"):
        build(make_corpus(tmp_path / "other", [64000]), max_gb=1e-6)
    with pytest.raises(DataError, match="no feature store"):
        FeatureStore.open(tmp_path)


def test_load(tmp_path, encoder, tokenizer):
    encoder.save_pretrained(tmp_path / "encoder", half=True)
    tokenizer.save_pretrained(tmp_path / "tokenizer", half=True)
    one, units = beats.load(tmp_path)
    assert one.config == encoder.config
    assert units.config.codebook == 16
    UnitTokenizer(UnitsConfig(codebook=4, dim=7)).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(CheckpointError, match="7 wide"):
        beats.load(tmp_path)
