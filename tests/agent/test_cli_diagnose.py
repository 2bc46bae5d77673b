"""``resp-agent diagnose``: files, folders, metadata and pictures, from the command line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from agent_cli import run as run_command
from PIL import Image

from agent.cli.diagnose import AUDIO_SUFFIXES, recordings
from diagnoser.config import DiagnoserTrainConfig
from diagnoser.predict import Predictor
from diagnoser.train import train_diagnoser
from resp229k.audio import CONTAINERS
from resp229k.corpus import Corpus
from resp229k.simulate import SimulateConfig, simulate_corpus
from training.fitconfig import FitConfig

SMALL = SimulateConfig(
    seed=5, classes=("Control", "Asthma"), head=8, tail=8, rare=0, select=4, plan=0, test=2, seconds=1.0,
    train_sources=2, valid_sources=1, test_sources=1, workers=1,
)  # fmt: skip
ODD = "$a_b$ [red].wav"  # neither mathematics nor markup


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diagnoser, recordings (one of them broken) and their annotations."""
    folder = tmp_path_factory.mktemp("diagnose")
    simulate_corpus(SMALL, folder / "corpus")
    config = DiagnoserTrainConfig(
        corpus=str(folder / "corpus"), task="disease16", fit=FitConfig(steps=4, batch_size=8)
    )
    train_diagnoser(config, folder / "model")
    clips = Corpus.open(folder / "corpus").subset(split="test").clips
    for name, clip in zip(("one.wav", "ward/two.wav", ODD), clips, strict=False):
        path = folder / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / "corpus" / clip.path).read_bytes())
    (folder / "recordings" / "bad.wav").write_bytes(b"RIFF")
    (folder / "marks").mkdir()
    (folder / "marks" / "one.txt").write_text("0.1 0.4 1 0\n0.4 0.9 1 1\n")
    (folder / "patients.csv").write_text(
        "file,age_years,sex,doctor\none.wav,61,male,Who\nward/two.wav,,,\ngone.wav,5,female,\n"
    )
    return folder


def run(home: Path, monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    monkeypatch.chdir(home)
    return run_command(monkeypatch, "diagnose", *args)


def test_a_folder_with_metadata(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    args = ("recordings", "--model", "model", "--metadata", "patients.csv")
    assert run(home, monkeypatch, *args, "--format", "csv") == 0
    printed = capsys.readouterr()
    assert "no diagnoser reads: doctor" in printed.err
    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(printed.out))}
    assert set(rows) == {
        f"recordings/{name}" for name in ("one.wav", "ward/two.wav", ODD, "bad.wav", "gone.wav")
    }
    assert "no such recording" in rows["recordings/gone.wav"]["error"]
    assert rows["recordings/bad.wav"]["error"] and not rows["recordings/bad.wav"]["prediction"]
    predictor = Predictor.load(home / "model")
    told = predictor.predict_file(home / "recordings/one.wav", "Sex: male. Age 61 years.").probabilities
    alone = predictor.predict_file(home / "recordings/one.wav").probabilities
    assert told is not None and alone is not None
    given = {name: float(rows["recordings/one.wav"][name]) for name in told}
    assert sum(given.values()) == pytest.approx(1, abs=1e-5)
    assert given != alone  # the row was read
    assert run(home, monkeypatch, *args, "--strict") == 2  # all rows are printed none the less
    assert "one.wav" in capsys.readouterr().out


def test_json_and_a_single_recording(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(home, monkeypatch, "recordings/one.wav", "--model", "model", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["error"] is None and row["prediction"] in row


def test_a_narrative_alone(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert (
        run(home, monkeypatch, "--text", "A man, 61 years old.", "--model", "model", "--format", "json") == 0
    )
    (row,) = json.loads(capsys.readouterr().out)
    assert row["file"] == "" and row["prediction"] in row


def test_pictures_show_where_it_looked(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    args = ("--model", "model", "--metadata", "patients.csv", "--explain", "seen", "--annotations", "marks")
    assert run(home, monkeypatch, "recordings", *args) == 0
    found = {path.relative_to(home / "seen").as_posix() for path in (home / "seen").rglob("*.png")}
    assert found == {"one.wav.png", "ward/two.wav.png", f"{ODD}.png"}
    shown = np.asarray(Image.open(home / "seen/one.wav.png").convert("RGB")).astype(int)
    red = (abs(shown - np.array([214, 39, 40])).sum(-1) < 12).sum()  # the lane of crackles
    plain = np.asarray(Image.open(home / "seen/ward/two.wav.png").convert("RGB")).astype(int)
    assert red > 500 > (abs(plain - np.array([214, 39, 40])).sum(-1) < 12).sum()


WRONG = {
    "nothing": ((), "no recording"),
    "metadata alone": (("--metadata", "patients.csv"), "no recording"),
    "text and metadata": (("recordings", "--text", "x", "--metadata", "patients.csv"), "give one"),
    "metadata of nothing": (("recordings", "--metadata", "none.csv"), "none.csv"),
    "annotations without pictures": (("recordings", "--annotations", "marks"), "--explain"),
    "no annotations": (("recordings", "--explain", "x", "--annotations", "recordings"), "annotates none"),
    "no folder of annotations": (("recordings", "--explain", "x", "--annotations", "y"), "no such folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_exits_with_2(home: Path, monkeypatch: pytest.MonkeyPatch, capsys, case: str) -> None:
    args, reason = WRONG[case]
    assert run(home, monkeypatch, *args, "--model", "model") == 2
    assert reason in capsys.readouterr().err.replace("\n", " ")
    assert not (home / "x").exists()


def test_what_is_not_read_of_a_narrative_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    args = ("recordings/one.wav", "--model", "model", "--format", "json", "--text")
    assert run(home, monkeypatch, *args, "61 years old.") == 0
    assert capsys.readouterr().err == ""
    assert run(home, monkeypatch, *args, "A man, 61 years old. " * 20) == 0
    told = capsys.readouterr()
    assert "1 of 1 narratives have more than 32 tokens" in told.err and json.loads(told.out)
    deaf = Predictor.load(home / "model")
    deaf.words = None
    assert "only listens" in deaf.unread(["A man."]) and deaf.unread([]) == ""


def test_every_recording_that_can_be_read_is_found(tmp_path: Path) -> None:
    assert set(AUDIO_SUFFIXES) >= CONTAINERS
    for name in ("a.webm", "b.M4A", "c.wav", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert recordings(tmp_path)[1] == ["a.webm", "b.M4A", "c.wav"]


def test_a_recording_of_one_sample_is_a_row(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (home / "short").mkdir()
    soundfile.write(home / "short/one.wav", np.ones(1), 48000)
    (home / "short/two.wav").write_bytes((home / "recordings/one.wav").read_bytes())
    assert run(home, monkeypatch, "short", "--model", "model", "--format", "json") == 0
    bad, good = json.loads(capsys.readouterr().out)
    assert "less than a sample of 16000 Hz" in bad["error"] and good["prediction"]


def test_a_recording_of_zeros_is_told_by_name(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    soundfile.write(home / "zeros.wav", np.zeros(16000), 16000)
    assert run(home, monkeypatch, "zeros.wav", "--model", "model") == 2
    assert "zeros.wav" in capsys.readouterr().err
