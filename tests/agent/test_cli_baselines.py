"""``resp-agent baselines``: a small comparison and an ablation from the command line; wrong input exits with 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from agent_cli import run as run_command

import agent.cli as cli
from diagnoser.baselines import run as module
from diagnoser.baselines.rows import ABLATION
from resp229k.simulate import SimulateConfig, simulate_corpus
from training.files import read_json

SMALL = SimulateConfig(
    seed=5, classes=("Control", "Asthma"), head=10, tail=10, rare=0, select=4, plan=0, test=6, seconds=1.0,
    train_sources=2, valid_sources=1, test_sources=2, workers=1,
)  # fmt: skip
SHORT = ("-o", "preprocess.seconds=1", "-o", "fit.steps=4", "-o", "fit.eval_every=4")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sim") / "corpus"
    simulate_corpus(SMALL, folder)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    return run_command(monkeypatch, "baselines", *args)


def test_a_comparison_is_written_and_gone_on_with(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ("--row", "weaving", "--row", "majority", "--row", "pooled")
    args = ("--corpus", str(corpus), "--task", "disease16", *rows, "--seeds", "1", "--out", "out", *SHORT)
    assert run(monkeypatch, *args, "--markdown") == 0
    text = capsys.readouterr().out
    assert "against weaving" in text and "| majority | 0." in text
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["results.csv", "results.json", "results.md", "results.png"]
    record = read_json(tmp_path / "out" / "results.json")
    assert record["config"]["fit"]["steps"] == 4 and record["preprocess"]["seconds"] == 1
    assert record["rows"] == ["weaving", "majority", "pooled"]

    def forbidden(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "fit_predict", forbidden)
    assert run(monkeypatch, *args) == 0
    assert read_json(tmp_path / "out" / "results.json") == record


def test_the_ablation_writes_a_config_per_row(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def nothing(plan: Any) -> list[Any]:
        seen.extend(plan.rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_rows", nothing)
    args = ("--corpus", str(corpus), "--task", "disease16", "--ablation", "--out", "out", *SHORT)
    monkeypatch.setattr(sys, "argv", ["resp-agent", "baselines", *args])
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        cli.main()
    assert seen == list(ABLATION)
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "out/configs").iterdir()}
    assert len(files) == 10
    bare = files["late-raw-no-anchors"]
    assert bare["variant"] == {"fusion": "late", "text": "raw", "anchors": False}
    assert bare["diagnoser"]["model"]["anchors"] is None and bare["diagnoser"]["fit"]["steps"] == 4
    assert files["weaving-none-anchors"]["diagnoser"]["text"] is False


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], "--suite or --corpus"),
        (["--suite", "spr2icbhi", "--corpus", "x"], "--suite or --corpus"),
        (["--corpus", "x"], "needs a task"),
        (["--suite", "nonesuch"], "nonesuch"),
        (["--suite", "spr2icbhi"], "RESP_DATA"),
        (["--suite", "spr2icbhi", "--root", "nowhere"], "nowhere"),
        (["--suite", "spr2icbhi", "--task", "icbhi4"], "its own task"),
        (["--suite", "spr2icbhi", "-o", "preprocess.seconds=2"], "preprocess is fixed"),
        (["--corpus", "nowhere", "--task", "icbhi4"], "nowhere"),
        (["--corpus", "nowhere", "--task", "icbhi4", "--row", "magic"], "magic"),
        (["--corpus", "nowhere", "--task", "icbhi4", "-o", "seed=3"], "seed is fixed"),
        (["--corpus", "nowhere", "--task", "icbhi4", "--out", "file"], "file"),
        (["--corpus", "nowhere", "--task", "icbhi4", "--config", "nonesuch"], "nonesuch"),
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
    assert run(monkeypatch, *args, *(() if "--out" in args else ("--out", "out"))) == 2
    text = capsys.readouterr().err.replace("\n", " ")
    assert named in text and "→" in text
    assert not (tmp_path / "out").exists()


def test_names_and_options_load_no_torch() -> None:
    code = (
        "import sys, diagnoser.baselines.rows, agent.cli.baselines; "
        "assert not {'torch', 'sklearn', 'pandas', 'matplotlib', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
