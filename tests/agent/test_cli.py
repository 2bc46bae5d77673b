"""The command line: instant help, clear errors, exit codes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import agent.cli as cli
from agent.cli.generate import generate
from generator.config import SampleConfig
from resp229k.audio import write_wav

COMMANDS = (
    "loop",
    "compare",
    "generate",
    "diagnose",
    "evaluate",
    "train",
    "data",
    "beats",
    "runs",
    "chat",
    "doctor",
)


def resp(*args: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=200)


def test_help_is_instant_and_names_every_command() -> None:
    best = 9.0
    for _ in range(3):
        start = os.times()
        done = resp("--help")
        end = os.times()  # the child's processor time: a busy machine does not count
        spent = end.children_user - start.children_user + end.children_system - start.children_system
        best = min(best, spent)
        assert done.returncode == 0
    assert best < 1.0
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("command", [*[[name] for name in COMMANDS if name not in ("train", "data", "beats")],
                                     ["train", "diagnoser"], ["train", "pretrain"], ["data", "build"],
                                     ["data", "check"], ["data", "simulate"], ["data", "stats"], ["data", "leakage"],
                                     ["data", "export"], ["data", "sources"], ["data", "protocols"],
                                     ["data", "tasks"], ["data", "sounds"],
                                     ["beats", "probe"], ["beats", "compare"], ["train", "tagged"],
                                     ["train", "masked"], ["train", "tokenizer"], ["train", "units"]])  # fmt: skip
def test_every_command_has_help(command: list[str]) -> None:
    done = resp(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


@pytest.mark.parametrize("name", ["temperature", "guidance"])
def test_help_of_generate_names_what_is_drawn_with(name: str) -> None:
    (option,) = get_type_hints(generate, include_extras=True)[name].__metadata__
    assert f"[default: {SampleConfig.model_fields[name].default}]" in option.help


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
    "unknown setting of a draw": (
        ["generate", "--label", "Asthma", "--style", "ok.wav", "--out", "x", "-o", "stepz=2"],
        "stepz",
    ),
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
    "a folder as style": (
        ["generate", "--label", "Asthma", "--style", "hollow", "--out", "x"],
        "is a folder",
    ),
    "short style": (["generate", "--label", "Asthma", "--style", "short.wav", "--out", "x"], "holds 0.100 s"),
    "a label's case": (
        ["generate", "--label", "asthma", "--style", "ok.wav", "--out", "x"],
        "write 'Asthma'",
    ),
    "a label of another task": (
        ["generate", "--label", "wheeze", "--style", "ok.wav", "--out", "x"],
        "it is one of task icbhi4",
    ),
    "a setting twice": (
        [
            "generate",
            "--label",
            "Asthma",
            "--style",
            "ok.wav",
            "--out",
            "x",
            "--temperature",
            "1",
            "-o",
            "temperature=2",
        ],
        "temperature is given twice",
    ),
    "settings that contradict": (
        ["generate", "--label", "Asthma", "--style", "ok.wav", "--out", "x", "-o", "method=dopri5"],
        "SampleConfig: dopri5 chooses its own steps",
    ),
    "silent style": (["generate", "--label", "Asthma", "--style", "silent.wav", "--out", "x"], "silent.wav"),
    "empty style": (["generate", "--label", "Asthma", "--style", "empty.wav", "--out", "x"], "empty.wav"),
    "out is a file": (["generate", "--label", "Asthma", "--style", "ok.wav", "--out", "bad.wav"], "bad.wav"),
    "out is below a file": (
        ["generate", "--label", "Asthma", "--style", "ok.wav", "--out", "bad.wav/x"],
        "bad.wav",
    ),
    **{
        f"{seconds} s": (
            ["generate", "--label", "Asthma", "--style", "ok.wav", "--out", "x", "--seconds", seconds],
            "0.175 to 4.0 s",
        )
        for seconds in ("nan", "0", "-1", "99")
    },
    "no generator": (
        ["generate", "--label", "Asthma", "--style", "ok.wav", "--out", "x", "--weights", "hollow"],
        "hollow",
    ),
    "missing recording": (["diagnose", "no.wav"], "no.wav"),
    "corrupt recording": (["diagnose", "bad.wav"], "bad.wav"),
    "silent recording": (["diagnose", "silent.wav"], "silent.wav"),
    "empty recording": (["diagnose", "empty.wav"], "empty.wav"),
    "empty folder": (["diagnose", "hollow"], "hollow"),
    "no run": (["diagnose", "ok.wav"], "runs"),
    "corrupt summary": (["diagnose", "ok.wav", "--model", "torn"], "summary.json"),
    "summary without diagnoser": (["diagnose", "ok.wav", "--model", "other"], "summary.json"),
    "figures into a folder": (["evaluate", "--corpus", "nowhere", "--out", "bad.json"], "bad.json"),
    "figures below a file": (["evaluate", "--corpus", "nowhere", "--out", "bad.wav/x"], "bad.wav"),
    "neither corpus nor suite": (["evaluate"], "--suite"),
    "unknown suite": (["evaluate", "--suite", "everything"], "everything"),
    "no corpus": (["evaluate", "--corpus", "nowhere", "--model", "nomodel"], "nomodel"),
    "no manifest": (["data", "check", "hollow"], "manifest"),
    "missing corpus root": (["data", "build", "-o", "root=nowhere", "--out", "x"], "nowhere"),
    "empty corpus root": (["data", "build", "-o", "root=hollow", "--out", "x"], "hollow"),
}


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder of one good recording and of what users give by mistake."""
    noise(tmp_path / "ok.wav")
    noise(tmp_path / "short.wav", 0.1)
    (tmp_path / "bad.wav").write_bytes(b"RIFF no audio here")
    (tmp_path / "empty.wav").write_bytes(b"")
    write_wav(tmp_path / "silent.wav", np.zeros(16000), synthetic=False)
    for name in ("hollow", "bad.json"):
        (tmp_path / name).mkdir()
    for name, text in {"torn": '{"diagnos', "other": "{}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(text)
    return tmp_path


@pytest.mark.parametrize("case", BAD)
def test_wrong_input_exits_with_2_and_names_it(
    case: str, inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args, named = BAD[case]
    monkeypatch.chdir(inputs)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.setattr(sys, "argv", ["resp-agent", *args])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    text = capsys.readouterr().err.replace("\n", " ")
    assert stop.value.code == 2, text
    assert named in text
    assert "→" in text  # what to do about it
    assert not (inputs / "x").exists()


def test_a_child_process_ends_with_2_without_a_traceback(inputs: Path) -> None:
    done = resp("diagnose", "bad.wav", cwd=inputs)
    assert done.returncode == 2
    assert "bad.wav" in done.stderr and "→" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied", "clips"),
        FileExistsError(errno.EEXIST, "File exists", "clips"),
        IsADirectoryError(errno.EISDIR, "Is a directory", "clips"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "clips"),
        OSError(errno.ENOSPC, "No space left on device", "clips"),
        OSError("clips: no answer"),
    ],
)
def test_the_systems_refusals_exit_with_2_and_a_cure(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    text = str(cli.explained(error))
    assert text.startswith("clips: ") and " → " in text
