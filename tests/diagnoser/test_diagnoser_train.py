"""Training to evaluation on a toy corpus of tones, with a small random encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from beats.cache import FeatureStore
from beats.config import BeatsConfig, UnitsConfig
from beats.encoder import BeatsEncoder
from beats.units import UnitTokenizer
from diagnoser.config import Anchors, DiagnoserSizes, DiagnoserTrainConfig
from diagnoser.data import ClipDataset
from diagnoser.evaluate import evaluate
from diagnoser.model import Diagnoser
from diagnoser.predict import Predictor, windows
from diagnoser.text import Words
from diagnoser.train import selector, train_diagnoser
from resp229k.audio import RATE, Preprocess, write_wav
from resp229k.clip import Clip, Metadata
from resp229k.corpus import Corpus
from training.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    ContaminationError,
    DataError,
    RunError,
)
from training.files import write_json
from training.fitconfig import FitConfig
from training.model import Provenance

LABELS = ("normal", "crackle", "wheeze", "both")
COUNTS = {"train": 10, "select": 4, "plan": 2, "test": 4}


def tone(label: str, seed: int, seconds: float = 1.0) -> np.ndarray:
    """A class is a pitch; the noise differs from clip to clip."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = {"normal": 200, "crackle": 600, "wheeze": 1500, "both": 3500}[label]
    return (0.3 * np.sin(2 * np.pi * pitch * t) + 0.02 * rng.normal(size=t.size)).astype(np.float32)


def clip(name: str, label: str, split: Any, subject: str, **more: Any) -> Clip:
    return Clip(
        clip_id=name,
        recording_id=name,
        subject_id=f"toy:{subject}",
        source="toy",
        split=split,
        path=f"audio/{name}.wav",
        start=0.0,
        end=1.0,
        sample_rate=RATE,
        labels={"icbhi4": label},
        metadata=Metadata(age_years=40 + len(name), sex="male", site="left posterior chest"),
        **more,
    )


def make_corpus(folder: Path) -> Corpus:
    clips = []
    for split, count in COUNTS.items():
        for label in LABELS:
            for n in range(count):
                name = f"{split}-{label}-{n}"
                write_wav(folder / "audio" / f"{name}.wav", tone(label, len(clips)), synthetic=False)
                clips.append(clip(name, label, split, f"{split}{n}"))
    corpus = Corpus(folder, clips)
    corpus.save()
    return corpus


def make_beats(folder: Path) -> Path:
    torch.manual_seed(0)
    sizes = BeatsConfig(
        embed_dim=16, dim=24, ffn_dim=32, layers=1, heads=2, conv_pos=8, conv_pos_groups=4, max_distance=100
    )
    encoder = BeatsEncoder(sizes).eval()
    encoder.provenance = Provenance.of(["pretrain:1"])
    encoder.save_pretrained(folder / "encoder")
    tokenizer = UnitTokenizer(UnitsConfig(codebook=8, dim=24))
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def config_for(home: Path, **more: Any) -> DiagnoserTrainConfig:
    values = {
        "corpus": str(home / "corpus"),
        "task": "icbhi4",
        "beats": {"weights": str(home / "beats")},
        "preprocess": Preprocess(seconds=1.0),
        "model": DiagnoserSizes(
            hidden=24, heads=2, inner=32, layers=1, rows=8, max_columns=8, anchors=Anchors(rows=(0, 4))
        ),
        "fit": FitConfig(steps=80, batch_size=16, learning_rate=1e-2, eval_every=20),
    }
    return DiagnoserTrainConfig(**{**values, **more})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, an encoder and a trained diagnoser."""
    home = tmp_path_factory.mktemp("diagnoser")
    make_corpus(home / "corpus")
    make_beats(home / "beats")
    train_diagnoser(config_for(home), home / "model")
    return home


def test_learns_writes_and_leaves_nothing_else(home: Path) -> None:
    record = evaluate(home / "model", home / "corpus", "test", draws=100, save=home / "p.npz")
    assert record["macro_f1"] > 0.9 and record["clips"] == 16 and record["subjects"] == 4
    assert record["source_prior"]["accuracy"] == 0.25 and record["contaminated"] is None
    names = sorted(p.name for p in (home / "model").iterdir())
    assert names == [
        "config.json",
        "diagnoser.json",
        "metrics.json",
        "model.safetensors",
        "tokenizer.json",
        "train.yaml",
    ]
    assert not list(home.glob(".model*")) and not list(home.glob("*.tmp"))
    subjects = json.loads((home / "model" / "config.json").read_text())["provenance"]["subjects"]
    assert subjects == ["pretrain:1", *sorted(f"toy:train{n}" for n in range(10))]


def test_same_config_same_weights(home: Path) -> None:
    train_diagnoser(config_for(home), home / "again")
    for name in ("model.safetensors", "tokenizer.json", "metrics.json"):
        assert (home / "again" / name).read_bytes() == (home / "model" / name).read_bytes()


def test_validation_is_deterministic(home: Path) -> None:
    predictor = Predictor.load(home / "model")
    select = Corpus.open(home / "corpus").subset(split="select")
    store = predictor.build_store(select)
    dataset = ClipDataset(
        [c.clip_id for c in select.clips], store, [[] for _ in select.clips], select.labels("icbhi4")
    )
    score = selector(dataset)
    assert score(predictor.model) == score(predictor.model)


def test_contaminated_test_sets_are_refused(home: Path) -> None:
    with pytest.raises(ContaminationError, match="10 of 10 subjects of train"):
        evaluate(home / "model", home / "corpus", "train")
    record = evaluate(home / "model", home / "corpus", "train", allow_contaminated=True, draws=10)
    assert record["contaminated"]["subjects"] == 10
    with pytest.raises(ContaminationError, match="4 of 4 subjects of select were trained or selected on"):
        evaluate(home / "model", home / "corpus", "select")
    record = evaluate(home / "model", home / "corpus", "select", allow_contaminated=True, draws=10)
    assert record["selected_on"] and record["contaminated"]["subjects"] == 4
    assert evaluate(home / "model", home / "corpus", "plan", draws=10)["contaminated"] is None


def test_select_subjects_are_refused_as_test_subjects_of_another_corpus(home: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "audio" / "other.wav", tone("both", 7), synthetic=False)
    Corpus(tmp_path, [clip("other", "both", "test", "select0")]).save()
    with pytest.raises(ContaminationError, match="toy:select0"):
        evaluate(home / "model", tmp_path, "test")


def test_wrong_requests_of_evaluate(home: Path) -> None:
    with pytest.raises(DataError, match="is for icbhi4"):
        evaluate(home / "model", home / "corpus", task="disease16")
    with pytest.raises(DataError, match="no pretrain clips"):
        evaluate(home / "model", home / "corpus", "pretrain")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        evaluate(home, home / "corpus")


def test_prediction_does_not_depend_on_the_batch(home: Path) -> None:
    predictor = Predictor.load(home / "model")
    corpus = Corpus.open(home / "corpus").subset(split="plan")
    store = predictor.build_store(corpus)
    together = predictor.predict_corpus(corpus, store)
    for row, one in enumerate(corpus.clips):
        alone = predictor.predict_corpus(Corpus(corpus.folder, [one]), store)
        np.testing.assert_allclose(alone.probs[0], together.probs[row], atol=1e-5)
    np.testing.assert_allclose(together.probs.sum(axis=1), 1.0, atol=1e-6)


def test_files(home: Path, tmp_path: Path) -> None:
    """Good, long, corrupt and silent files; without and with a narrative."""
    write_wav(tmp_path / "good.wav", tone("wheeze", 99), synthetic=False)
    write_wav(tmp_path / "long.wav", tone("wheeze", 98, seconds=2.5), synthetic=False)
    write_wav(tmp_path / "silent.wav", np.zeros(RATE, dtype=np.float32), synthetic=False)
    write_wav(tmp_path / "short.wav", tone("wheeze", 97, seconds=0.05), synthetic=False)
    (tmp_path / "bad.wav").write_bytes(b"not audio")
    predictor = Predictor.load(home / "model")
    paths = sorted(tmp_path.glob("*.wav"))
    rows = {row.path.name: row for row in predictor.predict_files(paths, text="A male patient.")}
    assert rows["good.wav"].label == rows["long.wav"].label == "wheeze"
    assert sum(rows["good.wav"].probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    for name, reason in (("bad", "decoded"), ("silent", "silent"), ("short", "samples")):
        assert rows[f"{name}.wav"].label is None and reason in rows[f"{name}.wav"].error
    assert predictor.predict_file(tmp_path / "good.wav").label == "wheeze"
    with pytest.raises(AudioError, match=r"bad\.wav"):
        predictor.predict_file(tmp_path / "bad.wav")


def test_windows_cover_the_wave() -> None:
    wave = np.arange(25)
    pieces = windows(wave, 10)
    assert [len(piece) for piece in pieces] == [10, 10, 10]
    assert set(np.concatenate(pieces)) == set(range(25)) and len(windows(wave, 30)) == 1


def test_synthetic_clips_repeats_and_warm_start(home: Path) -> None:
    folder = home / "synthetic"
    write_wav(folder / "audio" / "syn-1.wav", tone("both", 1000), synthetic=True)
    made = clip("syn-1", "both", "train", "train0", synthetic=True)
    Corpus(folder, [made]).save()
    write_json(folder / "subjects.json", ["makers:1", "toy:train0"])
    write_json(home / "repeats.json", {"train-both-0": 3, "syn-1": 1})
    train_diagnoser(
        config_for(
            home,
            synthetic=[str(folder)],
            repeats=str(home / "repeats.json"),
            init=str(home / "model"),
            balanced=True,
            loss_weights="inverse",
            fit=FitConfig(steps=5, batch_size=16),
        ),
        home / "warm",
    )
    metrics = json.loads((home / "warm" / "metrics.json").read_text())
    assert metrics["training_clips"] == {"normal": 10, "crackle": 10, "wheeze": 10, "both": 15}
    assert set(metrics["real_clips"].values()) == {10}
    assert metrics["macro_f1"] > 0.8
    assert "makers:1" in Diagnoser.from_pretrained(home / "warm").provenance.subjects


def test_resume_goes_on_with_the_same_clips_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_for(home, fit=FitConfig(steps=4, batch_size=8, eval_every=3, checkpoint_every=2))

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("diagnoser.train.all_logits", interrupt)  # at the first validation, after step 3
        train_diagnoser(config, home / "broken")
    relabelled = Corpus.open(home / "corpus")
    swap = {"wheeze": "both", "both": "wheeze"}
    for index, one in enumerate(relabelled.clips):
        label = one.labels["icbhi4"]
        relabelled.clips[index] = one.model_copy(update={"labels": {"icbhi4": swap.get(label, label)}})
    relabelled.folder = home / "other"
    (home / "other").mkdir()
    (home / "other" / "audio").symlink_to(home / "corpus" / "audio")
    relabelled.save()
    other = config.model_copy(update={"corpus": str(home / "other")})
    with pytest.raises(RunError, match="another config or corpus"):
        train_diagnoser(other, home / "broken", resume=True)
    train_diagnoser(config, home / "broken", resume=True)
    metrics = json.loads((home / "broken" / "metrics.json").read_text())
    assert metrics["steps"] == 4


def test_wrong_settings_of_training(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"set fit\.checkpoint_every"):
        train_diagnoser(config_for(home), home / "never", resume=True)
    with pytest.raises(ConfigError, match=r"12 columns, model\.max_columns is 8"):
        train_diagnoser(config_for(home, preprocess=Preprocess(seconds=2.0)), home / "never")
    write_json(home / "synthetic" / "subjects.json", {"makers": 1})
    with pytest.raises(DataError, match="list of subject ids"):
        train_diagnoser(config_for(home, synthetic=[str(home / "synthetic")]), home / "never")


def test_held_out_subjects_never_come_back_as_synthetic_clips(home: Path, tmp_path: Path) -> None:
    write_wav(tmp_path / "audio" / "syn-2.wav", tone("both", 1001), synthetic=True)
    Corpus(tmp_path, [clip("syn-2", "both", "train", "test0", synthetic=True)]).save()
    with pytest.raises(ContaminationError, match="toy:test0"):
        train_diagnoser(config_for(home, synthetic=[str(tmp_path)]), home / "never")
    Corpus(tmp_path, [clip("syn-2", "both", "train", "train0")]).save()
    with pytest.raises(DataError, match="not synthetic"):
        train_diagnoser(config_for(home, synthetic=[str(tmp_path)]), home / "never")
    assert not (home / "never").exists()


def test_wrong_requests_of_training(home: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="already exists"):
        train_diagnoser(config_for(home), home / "model")
    with pytest.raises(DataError, match="no train clips"):
        train_diagnoser(config_for(home, task="disease16"), tmp_path / "x")
    write_json(tmp_path / "repeats.json", {"nobody": 1})
    with pytest.raises(DataError, match="nobody"):
        train_diagnoser(config_for(home, repeats=str(tmp_path / "repeats.json")), tmp_path / "x")
    with pytest.raises(CheckpointError, match="other sizes"):
        train_diagnoser(config_for(home, init=str(home / "model"), model=DiagnoserSizes()), tmp_path / "x")
    bad = Corpus(tmp_path, [clip("a", "cough", "train", "1"), clip("b", "normal", "select", "2")])
    bad.save()
    for name in "ab":
        write_wav(tmp_path / "audio" / f"{name}.wav", tone("normal", 5), synthetic=False)
    with pytest.raises(DataError, match="unknown label 'cough'"):
        train_diagnoser(config_for(home, corpus=str(tmp_path)), tmp_path / "x")


def test_audio_only(home: Path) -> None:
    config = config_for(home, text=False, fit=FitConfig(steps=3, batch_size=8))
    train_diagnoser(config, home / "deaf")
    assert not (home / "deaf" / "tokenizer.json").exists()
    assert Predictor.load(home / "deaf").words is None


def test_another_encoder_is_refused(home: Path, tmp_path: Path) -> None:
    other = make_beats(tmp_path / "beats")
    model = BeatsEncoder.from_pretrained(other / "encoder")
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    model.save_pretrained(other / "encoder")
    predictor = Predictor.load(home / "model")
    predictor.record = predictor.record.model_copy(update={"beats": str(other)})
    with pytest.raises(CheckpointError, match="not the one"):
        predictor.build_store(Corpus.open(home / "corpus"))


def test_features_are_standardised_and_text_is_read(home: Path) -> None:
    model = Diagnoser.from_pretrained(home / "model")
    assert float(model.feature_mean.abs().sum()) > 0 and float(model.feature_scale.min()) > 0
    words = Words.load(home / "model")
    ids = words.encode("A male patient, aged 46 years.", 32)
    assert 3 < len(ids) <= 32 and max(ids) < 400 and 3 not in ids  # nothing unknown


def test_tokenizer_does_not_depend_on_order() -> None:
    texts = [f"A patient aged {n} years; left posterior chest {n % 7}." for n in range(60)]
    one, two = Words.train(texts, 120), Words.train(texts[::-1], 120)
    assert one.tokenizer.to_str() == two.tokenizer.to_str()
    assert one.tokenizer.token_to_id("[DESCRIPTION]") == 4


def test_store_of_the_corpus_is_computed_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr("beats.cache._encode", refuse)
    predictor = Predictor.load(home / "model")
    test = Corpus.open(home / "corpus").subset(split="test", task="icbhi4")
    assert isinstance(predictor.build_store(test), FeatureStore)
