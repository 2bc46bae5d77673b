"""``resp-agent beats``: the simulated probe runs without recordings, real ones say what they need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agent_cli import run as run_command

from beats import probe_data
from resp229k.simulate import SimulateConfig

SMALL = SimulateConfig(
    seed=5, classes=("Control", "Asthma"), head=20, tail=20, rare=0, select=4, plan=0, test=20, seconds=1.0,
    train_sources=2, valid_sources=1, test_sources=2, workers=1,
)  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    return run_command(monkeypatch, "beats", *args)


@pytest.mark.slow
def test_simulated_probe_needs_no_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probe_data, "SIMULATED", SMALL)
    args = ("probe", "--suite", "simulated", "--seeds", "1", "--out", "found", "--markdown")
    assert run(monkeypatch, *args) == 0
    text = capsys.readouterr().out
    assert "simulated: disease16" in text
    assert "| features |" in text and "| chance | 0.500 |" in text
    assert "codebook: perplexity" in text
    record = json.loads((tmp_path / "found/probe.json").read_text())
    assert record["weights"] == "tiny/beats"
    assert record["suites"]["simulated"]["classes"]["Asthma"] == {"train": 20, "valid": 4, "test": 20}
    assert (tmp_path / "found/probe.png").is_file()


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--suite", "icbhi"], "RESP_DATA"),
        ([], "RESP_DATA"),
        (["--suite", "nonesuch"], "nonesuch"),
        (["--suite", "icbhi", "--root", "nowhere"], "nowhere"),
        (["--suite", "simulated", "--weights", "nowhere"], "nowhere"),
        (["--suite", "simulated", "--out", "file"], "file"),
    ],
)
def test_wrong_input_exits_with_2_and_a_cure(
    args: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert run(monkeypatch, "probe", *args) == 2
    text = capsys.readouterr().err.replace("\n", " ")
    assert named in text and "→" in text
