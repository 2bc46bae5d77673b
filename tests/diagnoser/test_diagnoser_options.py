"""Options of training from config to folder: losses, augmentation, rates, average, the encoder's tuning."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_diagnoser_train import clip, config_for, make_beats, make_corpus, tone

import beats
from beats.cache import StoreWeights
from diagnoser.config import AugmentConfig
from diagnoser.material import gather
from diagnoser.model import Diagnoser
from diagnoser.predict import Predictor
from diagnoser.train import train_diagnoser
from resp229k.audio import write_wav
from resp229k.corpus import Corpus
from training.errors import CheckpointError
from training.files import write_json
from training.fitconfig import FitConfig
from training.model import weights_digest

FIT = FitConfig(steps=24, batch_size=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, an encoder, a synthetic clip whose label is wrong."""
    home = tmp_path_factory.mktemp("options")
    make_corpus(home / "corpus")
    make_beats(home / "beats")
    write_wav(home / "made" / "audio" / "syn.wav", tone("both", 1000), synthetic=True)
    Corpus(home / "made", [clip("syn", "normal", "train", "train0", synthetic=True)]).save()
    return home


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_everything_on_still_learns(home: Path) -> None:
    fit = FIT.model_copy(update={"ema": 0.9, "layer_decay": 0.8, "rates": {"diagnoser.projection": 2.0}})
    train_diagnoser(
        config_for(
            home,
            fit=fit,
            balanced=True,
            loss_weights="effective",
            logit_adjustment=0.5,
            augment=AugmentConfig(mixup=0.2, time_masks=1, row_masks=1),
        ),
        home / "all",
    )
    assert metrics(home / "all")["macro_f1"] > 0.4  # chance is 0.1 to 0.25


def test_weightless_synthetic_clip_is_not_learnt(home: Path) -> None:
    """Mislabelled, it is learnt at full weight and stays a riddle at weight 0."""
    write_json(home / "repeats.json", {"syn": 9})
    more = {"synthetic": [str(home / "made")], "repeats": str(home / "repeats.json")}
    for weight in (0.0, 1.0):
        train_diagnoser(config_for(home, fit=FIT, synthetic_weight=weight, **more), home / f"w{weight:g}")
    none, full = (metrics(home / name)["training_loss"] for name in ("w0", "w1"))
    assert none["synthetic"] > full["synthetic"] + 1 and none["synthetic"] > none["real"] + 1
    assert "training_loss" not in metrics(home / "all")


def test_sampling_and_loss_do_not_know_of_each_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[bool, str], tuple[Any, Any]] = {}

    def stop(model: Any, train: Any, *, weights: Any, **_: Any) -> None:
        seen[config.balanced, config.loss_weights] = weights, train.weights
        raise KeyboardInterrupt

    monkeypatch.setattr("diagnoser.train.fit", stop)
    write_json(home / "more.json", {"train-both-0": 10})
    for balanced in (False, True):
        for kind in ("none", "effective"):
            config = config_for(home, repeats=str(home / "more.json"), balanced=balanced, loss_weights=kind)
            with pytest.raises(KeyboardInterrupt):
                train_diagnoser(config, home / "never")
    assert seen[False, "none"] == (None, None) and seen[False, "effective"][0] is None
    assert set(seen[True, "none"][0]) == {1 / 10, 1 / 20} and seen[True, "none"][1] is None
    np.testing.assert_array_equal(seen[True, "effective"][0], seen[True, "none"][0])
    np.testing.assert_array_equal(seen[True, "effective"][1], seen[False, "effective"][1])


def test_each_modality_alone_has_its_temperature(home: Path) -> None:
    model = Diagnoser.from_pretrained(home / "all")
    alone = model.alone_temperatures
    assert not torch.equal(alone, torch.ones(2)) and float(alone.min()) > 0


def test_tuned_encoder_is_kept_and_predicts_as_it_trained(home: Path) -> None:
    before = weights_digest(beats.load_encoder(home / "beats"))
    fit = FIT.model_copy(update={"steps": 8, "eval_every": 4, "rates": {"encoder": 0.3}})
    train_diagnoser(config_for(home, fit=fit, tune_encoder=True), home / "tuned")
    assert weights_digest(beats.load_encoder(home / "beats")) == before
    tuned = beats.load_encoder(home / "tuned")
    predictor = Predictor.load(home / "tuned")
    assert weights_digest(tuned) == predictor.record.beats_digest != before
    assert set(tuned.provenance.subjects) == {"pretrain:1", *(f"toy:train{n}" for n in range(10))}
    assert tuned.provenance.notes["selected_on"] == [f"toy:select{n}" for n in range(4)]
    with pytest.raises(CheckpointError, match=r"another encoder.*give beats\.weights"):
        train_diagnoser(config_for(home, init=str(home / "tuned")), home / "never")
    # What training saw in float32 from frames, the store gives in half precision.
    select = Corpus.open(home / "corpus").subset(split="select", task="icbhi4")
    found = predictor.predict_corpus(select, predictor.build_store(select))
    assert np.mean(found.probs.argmax(1) == found.labels) == metrics(home / "tuned")["accuracy"]


def test_features_that_are_there_already_are_trained_on_alike(home: Path) -> None:
    config = config_for(home, fit=FIT.model_copy(update={"steps": 4}))
    train_diagnoser(config, home / "own")
    store = gather(config).store.stores[0]
    train_diagnoser(config.model_copy(update={"cache": str(home / "unused")}), home / "lent", store=store)
    assert not (home / "unused").exists()
    own, lent = (Diagnoser.from_pretrained(home / name).state_dict() for name in ("own", "lent"))
    assert all(torch.equal(own[name], lent[name]) for name in own)
    another: Any = SimpleNamespace(weights=StoreWeights(encoder="another"))
    with pytest.raises(CheckpointError, match="not of this encoder"):
        train_diagnoser(config, home / "never", store=another)
