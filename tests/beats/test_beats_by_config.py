"""``beats.weights``: a shipped set, our folder or a published file, from training to diagnosis."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from beats_restated import SMALL, random_file

import agent.cli as cli
import beats
from agent.config import LoopConfig
from agent.rooms import Rooms
from beats.cache import FeatureStore, StoreSet
from beats.config import UnitsConfig
from beats.tokenizer import Quantizer
from beats.units import UnitTokenizer
from generator.config import FlowConfig, MLLMConfig
from generator.decoder import FlowDecoder
from generator.mllm import RespMLLM
from generator.sample import Generator
from resp229k.audio import Preprocess
from resp229k.corpus import Corpus
from resp229k.simulate import SimulateConfig, simulate_corpus
from training.config import validate
from training.errors import CheckpointError, DataError
from training.files import digest, file_digest, read_json
from training.model import Model, Provenance, weights_digest

CODES = {"quant_n": 40, "quant_dim": 12}
TUNED = {"finetuned_model": True, "predictor_class": 11}
LOOP = {
    "name": "own-encoder",
    "rounds": 1,
    "budget": 2,
    "planners": ["oversample"],
    "corpus": {
        "kind": "simulated",
        "simulate": {"classes": ["Control", "COPD"], "rare": 1, "seconds": 1.0, "workers": 1,
                     "head": 4, "tail": 2, "select": 2, "plan": 2, "test": 2},
    },
    "preprocess": {"seconds": 1.0},
    "diagnoser": {"fit": {"steps": 2, "batch_size": 4}},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of every kind, and a small corpus."""
    home = tmp_path_factory.mktemp("by-config")
    torch.save(random_file(SMALL), home / "encoder.pt")
    torch.save(random_file(SMALL | TUNED, seed=1), home / "tuned.pt")
    torch.save(random_file(SMALL | CODES, seed=2), home / "tokenizer.pt")
    tokenizer = beats.load_tokenizer(home / "tokenizer.pt")
    tokenizer.save_pretrained(home / "both")
    tokenizer.save_pretrained(home / "set" / "beats")
    tokenizer.save_pretrained(home / "torn")
    UnitTokenizer(UnitsConfig(codebook=4, dim=7)).save_pretrained(home / "torn" / "tokenizer")
    tokenizer.encoder.save_pretrained(home / "alone")
    (home / "hollow").mkdir()
    (home / "notes.pt").write_text("no checkpoint")
    simulated = SimulateConfig(**LOOP["corpus"]["simulate"])  # type: ignore[index]
    simulate_corpus(simulated, home / "corpus")
    return home


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.setattr(sys, "argv", ["resp-agent", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    if stop.value.code:
        raise stop.value


def train(monkeypatch: pytest.MonkeyPatch, weights: str, out: str = "x") -> None:
    sizes = "{hidden: 16, heads: 2, inner: 16, layers: 1, max_columns: 8}"
    options = (f"beats.weights={weights}", "corpus=corpus", f"model={sizes}", "fit={steps: 2, batch_size: 4}",
               "preprocess={seconds: 1.0}")  # fmt: skip
    run(monkeypatch, "train", "diagnoser", *[part for o in options for part in ("-o", o)], "--out", out)


UNITS = {"tiny": UnitTokenizer, "tiny/beats": UnitTokenizer, "both": Quantizer, "set": Quantizer,
         "tokenizer.pt": Quantizer}  # fmt: skip


@pytest.mark.parametrize("name", [*UNITS, "alone", "encoder.pt", "tuned.pt"])
def test_every_kind_of_weights_is_found(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(home)
    path = beats.find(name)
    encoder = beats.load_encoder(path)
    assert not any(p.requires_grad for p in encoder.parameters()) and not encoder.training
    if name in UNITS:
        same, quantizer = beats.load(path)
        assert isinstance(quantizer, UNITS[name])
        assert weights_digest(same) == weights_digest(encoder)
        assert quantizer.units(torch.zeros(1, 2, 8, encoder.width)).shape == (1, 2, 8)
    else:
        with pytest.raises(CheckpointError, match=rf"{name}.* → "):
            beats.load(path)


def test_a_tokenizer_file_and_its_folders_are_one_encoder(home: Path) -> None:
    found = {weights_digest(beats.load_encoder(home / name)) for name in ("tokenizer.pt", "both", "alone")}
    assert len(found) == 1
    assert found != {weights_digest(beats.load_encoder(home / "encoder.pt"))}


class Numbers(Model):
    """A network of one vector and one number."""

    config_class = UnitsConfig

    def __init__(self, config: UnitsConfig):
        super().__init__(config)
        self.register_buffer("vector", torch.tensor([1.0, -2.5, 0.3]))
        self.register_buffer("number", torch.tensor(0.7))


def test_a_digest_is_over_the_bytes_of_every_kind_of_tensor() -> None:
    model = Numbers(UnitsConfig())
    sha = hashlib.sha256(digest(model.config.model_dump(mode="json")).encode())
    for name, values in (("number", np.float32(0.7)), ("vector", np.array([1.0, -2.5, 0.3], np.float32))):
        sha.update(name.encode() + values.tobytes())
    assert weights_digest(model) == sha.hexdigest()
    half = weights_digest(model.bfloat16())
    assert half == weights_digest(Numbers(UnitsConfig()).bfloat16()) != sha.hexdigest()
    model.number.copy_(0.8)
    assert weights_digest(model) != half


def build(home: Path, folder: Path, name: str, *, units: bool) -> FeatureStore:
    encoder = beats.load_encoder(home / name)
    tokenizer = beats.load(home / name)[1] if units else None
    corpus = Corpus.open(home / "corpus").subset(split="test")
    how = Preprocess(seconds=1.0)
    return FeatureStore.build(corpus, encoder=encoder, tokenizer=tokenizer, preprocess=how, folder=folder)


def test_features_need_no_units_and_stores_follow_the_weights(home: Path, tmp_path: Path) -> None:
    plain = build(home, tmp_path, "tokenizer.pt", units=False)
    whole = build(home, tmp_path, "tokenizer.pt", units=True)
    other = build(home, tmp_path, "tuned.pt", units=False)
    assert len({store.folder for store in (plain, whole, other)}) == 3
    assert build(home, tmp_path, "both", units=False).folder == plain.folder  # the same network
    name = next(iter(plain.index.clips))
    np.testing.assert_array_equal(plain.features(name), whole.features(name))
    assert not np.array_equal(plain.features(name), other.features(name))
    assert not list(plain.folder.glob("units*"))
    with pytest.raises(DataError, match=r"holds no units → build it with a tokenizer"):
        plain.units(name)
    assert whole.units(name).shape == (6, 8) and whole.units(name).max() < 40
    assert StoreSet([plain, plain]).weights == plain.weights != whole.weights
    with pytest.raises(DataError, match="different weights"):
        _ = StoreSet([plain, other]).weights


def test_a_published_file_from_training_to_diagnosis(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    torch.save(random_file(SMALL), home / "used.pt")
    train(monkeypatch, "used.pt", out="model")
    record = read_json(home / "model" / "diagnoser.json")
    assert record["beats"] == "used.pt"
    assert record["beats_digest"] == weights_digest(beats.load_encoder(home / "used.pt"))
    run(monkeypatch, "evaluate", "--model", "model", "--corpus", "corpus", "--out", "figures.json")
    assert read_json(home / "figures.json")["clips"] == 4
    wave = Corpus.open(home / "corpus").clips[0].path
    capsys.readouterr()
    run(monkeypatch, "diagnose", f"corpus/{wave}", "--model", "model", "--format", "json")
    (row,) = json.loads(capsys.readouterr().out)
    assert row["prediction"] and row["error"] is None

    def refused() -> str:
        with pytest.raises(SystemExit) as stop:
            run(monkeypatch, "diagnose", f"corpus/{wave}", "--model", "model")
        assert stop.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    (home / "kept.pt").write_bytes((home / "used.pt").read_bytes())
    torch.save(random_file(SMALL, seed=9), home / "used.pt")
    assert "used.pt: the encoder is not the one this diagnoser was trained on →" in refused()
    (home / "used.pt").unlink()
    assert "used.pt: no such weights → put them there" in refused()
    # A folder of ours under the same name, with the same network in it.
    beats.load_encoder(home / "kept.pt").save_pretrained(home / "used.pt")
    run(monkeypatch, "diagnose", f"corpus/{wave}", "--model", "model")


WRONG = {
    "missing.pt": "missing.pt: no such weights →",
    "notes.pt": "notes.pt: is no checkpoint of tensors",
    "hollow": "hollow: holds no BEATs encoder → give a folder",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("command", ["train", "loop"])
def test_wrong_weights_exit_with_2_path_and_cure(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
) -> None:
    monkeypatch.chdir(home)
    with pytest.raises(SystemExit) as stop:
        if command == "train":
            train(monkeypatch, name)
        else:
            run(
                monkeypatch,
                "loop",
                "--config",
                "ci-gate",
                "-o",
                f"beats.weights={name}",
                "--run",
                f"r-{name}",
            )
    text = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 2, text
    assert WRONG[name] in text and " → " in text
    assert not (home / "x").exists() and not (home / f"r-{name}" / "corpus").exists()


GENERATE = {
    "missing.pt": "missing.pt: no such weights →",
    "encoder.pt": "encoder.pt: holds a published encoder, not a tokenizer →",
    "torn": "torn: units for features 7 wide, the encoder's are 32 →",
    "tokenizer.pt": "tokenizer.pt: gives 32 wide features, the FlowDecoder knows 96 →",
}


@pytest.mark.parametrize("name", GENERATE)
def test_generate_refuses_units_it_was_not_trained_with(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(home)
    style = Corpus.open(home / "corpus").clips[0].path
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "generate", "--label", "COPD", "--style", f"corpus/{style}", "--out", "y",
            "--beats", name)  # fmt: skip
    text = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 2 and GENERATE[name] in text, text
    assert not (home / "y").exists()


@pytest.mark.slow
def test_generate_takes_the_published_tokenizer_of_its_training(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    encoder, quantizer = beats.load(home / "tokenizer.pt")
    noted = {"encoder": weights_digest(encoder), "tokenizer": weights_digest(quantizer)}
    known: dict[str, Any] = {
        "labels": {"disease16": ("Control", "COPD")}, "feature_dim": 32, "rows": 8, "columns": 6,
        "codebook": 40, "preprocess": Preprocess(seconds=1.0),
    }  # fmt: skip
    mllm = RespMLLM(
        MLLMConfig(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=16, style_tokens=2, **known)
    )
    flow = FlowDecoder(FlowConfig(dim=16, layers=1, heads=2, unit_dim=4, **known))
    for name, model in (("mllm", mllm), ("flow", flow)):
        model.provenance = Provenance(notes={"beats": noted})
        model.save_pretrained(tmp_path / name)
    style = Corpus.open(home / "corpus").clips[0].path
    options = (
        "--weights",
        str(tmp_path),
        "--label",
        "COPD",
        "--style",
        f"corpus/{style}",
        "--seconds",
        "0.5",
    )
    run(monkeypatch, "generate", *options, "--out", str(tmp_path / "made"), "--beats", "tokenizer.pt")
    (record,) = (tmp_path / "made").glob("*.json")
    assert read_json(record)["weights"]["encoder"] == file_digest(home / "tokenizer.pt")
    with pytest.raises(SystemExit) as stop:  # the folder has no BEATs of its own
        run(monkeypatch, "generate", *options, "--out", str(tmp_path / "none"))
    text = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 2 and "→" in text and "beats" in text
    torch.save(random_file(SMALL | CODES, seed=5), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt: its encoder is not the one that the FlowDecoder"):
        Generator.load(tmp_path, beats_path=tmp_path / "other.pt")


def loop(**values: Any) -> LoopConfig:
    return validate(LoopConfig, LOOP | values, where="test")


def test_the_loop_gives_its_diagnosers_the_encoder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr("agent.rooms.run_command", lambda *_, log, **__: log.write_text(""))

    def named(rooms: Rooms) -> str:
        (tmp_path / "round").mkdir(exist_ok=True)
        rooms.train_diagnoser(tmp_path / "round", synthetic=[], repeats=None, init=None, synthetic_weight=1.0)
        return str(yaml.safe_load((tmp_path / "round" / "train.yaml").read_text())["beats"]["weights"])

    default, tuned, both = (
        Rooms(loop(beats={"weights": name}), tmp_path) for name in (None, "tuned.pt", "both")
    )
    assert [named(rooms) for rooms in (default, tuned, both)] == [
        "tiny/beats", str(home / "tuned.pt"), str(home / "both")
    ]  # fmt: skip
    assert len({rooms.weights_digest() for rooms in (default, tuned, both)}) == 3
    assert default.encoder_provenance().subjects and tuned.encoder_provenance().subjects == []
    before = both.weights_digest()
    encoder = beats.load_encoder(home / "both")
    encoder.provenance = encoder.provenance.model_copy(update={"subjects": ["sprsound:1"]})
    encoder.save_pretrained(home / "both" / "encoder")
    again = Rooms(loop(beats={"weights": "both"}), tmp_path)
    assert again.weights_digest() == before  # the digest is the network's; its subjects are checked apart
    assert again.encoder_provenance().subjects == ["sprsound:1"]


@pytest.mark.slow
def test_a_loop_with_a_published_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    (home / "loop.yaml").write_text(yaml.safe_dump(LOOP))
    run(monkeypatch, "loop", "--config", "loop.yaml", "-o", "beats.weights=tuned.pt", "--run", "run")
    summary = read_json(home / "run" / "summary.json")
    record = read_json(home / "run" / summary["diagnoser"] / "diagnoser.json")
    assert record["beats_digest"] == weights_digest(beats.load_encoder(home / "tuned.pt"))
