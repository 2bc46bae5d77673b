"""``train pretrain`` with finished weights of encoder and units in place of its own: a generator for any tokenizer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from beats_restated import SMALL, random_file

import agent.cli as cli
import beats
from agent.model_card import write_model_card
from beats.pretrain import read_given, write_given
from beats.tokenizer import Quantizer
from beats.units import UnitTokenizer
from training.files import file_digest, read_json
from training.model import Provenance, weights_digest

CODES = {"quant_n": 40, "quant_dim": 12}
PRETRAIN = [
    "root=null",
    "events=72",
    "further_events=36",
    "judge_events=72",
    "seconds=1",
    "workers=1",
    "generator.codebook=40",
    "generator.preprocess.seconds=1",
    "generator.mllm_fit={steps: 2, batch_size: 4}",
    "generator.flow_fit={steps: 2, batch_size: 4}",
    "generator.draw.valid_clips=4",
    "judges=[{task: disease16, fit: {steps: 2, batch_size: 8}}]",
]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """Exit code of a command."""
    monkeypatch.setattr(sys, "argv", ["resp-agent", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code or 0


def pretrain(monkeypatch: pytest.MonkeyPatch, out: str, *overrides: str) -> Any:
    options = [part for value in (*PRETRAIN, *overrides) for part in ("-o", value)]
    return run(monkeypatch, "train", "pretrain", "--out", out, "--work", "work", *options)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published tokenizer of 40 units, the same in a folder of ours with subjects, and an encoder alone."""
    monkeypatch.chdir(tmp_path)
    torch.save(random_file(SMALL | CODES), tmp_path / "tokenizer.pt")
    torch.save(random_file(SMALL), tmp_path / "encoder.pt")
    tokenizer = beats.load_tokenizer(tmp_path / "tokenizer.pt")
    for part in (tokenizer.encoder, tokenizer.quantizer):
        part.provenance = Provenance.of(["icbhi:101", "sim3-A:1", "sim3-A:2"])
    tokenizer.save_pretrained(tmp_path / "mine")
    return tmp_path


@pytest.mark.parametrize("name", ["tokenizer.pt", "mine", "tiny"])
def test_given_weights_are_written_as_trained_ones(home: Path, name: str) -> None:
    given = read_given(name)
    report = write_given(given, home / "out")
    encoder, quantizer = beats.load(home / "out")
    assert read_json(home / "out" / "pretrain.json") == report
    assert report["weights"] == {"name": name, "sha256": given.sha256}
    assert report["units"]["codebook"] == quantizer.config.codebook == (256 if name == "tiny" else 40)
    assert isinstance(quantizer, UnitTokenizer if name == "tiny" else Quantizer)
    assert encoder.config == given.tokenizer.encoder.config
    assert encoder.provenance == given.tokenizer.encoder.provenance
    assert quantizer.provenance == given.tokenizer.quantizer.provenance
    for key, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, given.tokenizer.encoder.state_dict()[key].half().float())


def test_the_digest_follows_the_content(home: Path) -> None:
    assert read_given("tokenizer.pt").sha256 == file_digest(home / "tokenizer.pt")
    before = read_given("mine").sha256
    (home / "mine" / "notes.txt").write_text("no part of the weights")
    assert read_given("mine").sha256 == before
    encoder, _ = beats.load(home / "mine")
    encoder.provenance = Provenance.of(["icbhi:102"])
    encoder.save_pretrained(home / "mine" / "encoder")
    assert read_given("mine").sha256 != before


def test_the_card_claims_no_training(home: Path) -> None:
    write_given(read_given("mine"), home / "set" / "beats")
    write_model_card(home / "set", "set")
    card = " ".join((home / "set" / "README.md").read_text().split())
    for words in ("taken from `mine`", "patch stem", "codebook 40", "2 simulated subjects",
                  "1 subjects of ICBHI 2017; nothing of KAUH."):  # fmt: skip
        assert words in card, card
    for words in ("of SPRSound", "perplexity", "has heard the real subjects of both"):
        assert words not in card


WRONG = {
    "missing.pt": "missing.pt: no such weights → put them there",
    "encoder.pt": "encoder.pt: holds a published encoder, not a tokenizer → read it as an encoder",
    "mine": "mine: generator.codebook is 12, the tokenizer has 40 units → set generator.codebook=40",
    "null": "generator.codebook is 12, the tokenizer has 256 units → set generator.codebook=256",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert pretrain(monkeypatch, "out", f"beats.weights={name}", "generator.codebook=12") == 2
    assert WRONG[name] in " ".join(capsys.readouterr().err.split())
    assert not (home / "work").exists() and not (home / "out").exists()


@pytest.mark.slow
def test_a_generator_for_a_published_tokenizer(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pretrain(monkeypatch, "set", "beats.weights=tokenizer.pt") == 0
    assert not (home / "work" / "sim-encoder").exists()  # nobody would hear it
    encoder, quantizer = beats.load(home / "set" / "beats")
    assert isinstance(quantizer, Quantizer) and encoder.config.stem == "patch" and encoder.width == 32
    assert encoder.provenance.subjects == quantizer.provenance.subjects == []
    assert encoder.provenance.notes["official"]["sha256"] == file_digest(home / "tokenizer.pt")
    for part in ("mllm", "flow"):
        record = read_json(home / "set" / part / "config.json")
        assert record["config"]["codebook"] == 40 and record["config"]["feature_dim"] == 32
        assert record["provenance"]["notes"]["beats"]["tokenizer"] == weights_digest(quantizer)

    style = next((home / "work" / "sim").rglob("*.flac"), None) or next(
        (home / "work" / "sim").rglob("*.wav")
    )
    asked = ("--label", "Asthma", "--style", str(style), "--seconds", "1")
    assert run(monkeypatch, "generate", "--weights", "set", *asked, "--out", "made") == 0
    (wave,) = (home / "made").glob("*.wav")
    sound, rate = soundfile.read(wave)
    assert sound.shape == (rate,) and abs(sound).max() > 0

    stages = [home / "work" / name / "done.json" for name in ("beats", "judge-disease16", "mllm", "flow")]
    stamps = [path.stat().st_mtime_ns for path in stages]
    assert pretrain(monkeypatch, "set", "beats.weights=tokenizer.pt") == 0
    assert [path.stat().st_mtime_ns for path in stages] == stamps
    torch.save(random_file(SMALL | CODES, seed=1), home / "tokenizer.pt")
    assert pretrain(monkeypatch, "set", "beats.weights=tokenizer.pt") == 0
    changed = [path.stat().st_mtime_ns != stamp for path, stamp in zip(stages, stamps, strict=True)]
    assert changed == [True, False, True, True]
    assert weights_digest(beats.load(home / "set" / "beats")[0]) != weights_digest(encoder)
