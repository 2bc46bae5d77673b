"""The command line: instant help, clear errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from resp229k.audio import write_wav

COMMANDS = ("loop", "generate", "diagnose", "evaluate", "train", "data", "doctor")


def resp(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=200)


def test_help_is_instant_and_names_every_command() -> None:
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        done = resp("--help")
        best = min(best, time.perf_counter() - start)
        assert done.returncode == 0
    assert best < 1.0
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("command", [*[[name] for name in COMMANDS if name not in ("train", "data")],
                                     ["train", "diagnoser"], ["train", "pretrain"], ["data", "build"],
                                     ["data", "check"], ["data", "stats"], ["data", "simulate"]])  # fmt: skip
def test_every_command_has_help(command: list[str]) -> None:
    done = resp(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_doctor_says_how_to_get_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESP_DATA", raising=False)
    done = resp("doctor", cwd=tmp_path)
    assert done.returncode == 0
    assert "torch" in done.stdout
    assert "RESP_DATA" in done.stdout


def noise(path: Path, seconds: float = 1.0) -> Path:
    write_wav(path, np.random.default_rng(0).normal(0, 0.1, int(16000 * seconds)), synthetic=False)
    return path


BAD = {
    "unknown preset": (["loop", "--config", "nonesuch"], "nonesuch"),
    "unknown key": (["loop", "--config", "quickstart", "-o", "roundz=2"], "roundz"),
    "bad override": (["loop", "--config", "quickstart", "-o", "rounds"], "key=value"),
    "unknown label": (["generate", "--label", "Hiccups", "--style", "ok.wav", "--out", "x"], "Hiccups"),
    "unknown task": (
        ["generate", "--task", "pets", "--label", "Cat", "--style", "ok.wav", "--out", "x"],
        "pets",
    ),
    "class not learnt": (
        ["generate", "--label", "Lung Cyst", "--style", "ok.wav", "--out", "x"],
        "Lung Cyst",
    ),
    "missing style": (["generate", "--label", "Asthma", "--style", "no.wav", "--out", "x"], "no.wav"),
    "corrupt style": (["generate", "--label", "Asthma", "--style", "bad.wav", "--out", "x"], "bad.wav"),
    "silent style": (["generate", "--label", "Asthma", "--style", "silent.wav", "--out", "x"], "silent.wav"),
    "empty style": (["generate", "--label", "Asthma", "--style", "empty.wav", "--out", "x"], "empty.wav"),
    "missing recording": (["diagnose", "no.wav"], "no.wav"),
    "empty folder": (["diagnose", "hollow"], "hollow"),
    "no run": (["diagnose", "ok.wav"], "runs"),
    "no corpus": (["evaluate", "--corpus", "nowhere", "--model", "nomodel"], "nomodel"),
    "no manifest": (["data", "check", "hollow"], "manifest"),
    "missing corpus root": (["data", "build", "-o", "root=nowhere", "--out", "x"], "nowhere"),
    "empty corpus root": (["data", "build", "-o", "root=hollow", "--out", "x"], "hollow"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_exits_with_2_and_names_it(case: str, tmp_path: Path) -> None:
    noise(tmp_path / "ok.wav")
    (tmp_path / "bad.wav").write_bytes(b"RIFF no audio here")
    (tmp_path / "empty.wav").write_bytes(b"")
    write_wav(tmp_path / "silent.wav", np.zeros(16000), synthetic=False)
    (tmp_path / "hollow").mkdir()
    args, named = BAD[case]
    done = resp(*args, cwd=tmp_path)
    text = done.stderr.replace("\n", " ")
    assert done.returncode == 2, text
    assert named in text
    assert "Traceback" not in text
    assert not (tmp_path / "x").exists()
