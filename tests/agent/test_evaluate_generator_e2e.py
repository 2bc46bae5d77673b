"""``resp-agent evaluate-generator`` with the shipped weights, by command."""

from __future__ import annotations

from pathlib import Path

import pytest
from agent_cli import run

from training.files import read_json

ARGS = ["evaluate-generator", "--simulated", "--clips", "4", "--seeds", "1", "--train-clips", "60"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_shipped_weights_are_measured_and_nothing_is_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = ["--work", str(tmp_path / "work")]
    assert run(monkeypatch, *ARGS, *work, "--out", str(tmp_path / "one")) in (0, None)
    results = read_json(tmp_path / "one" / "results.json")
    rows = {name: row["figures"] for name, row in results["rows"].items()}
    assert list(rows) == ["codec", "generator", "noise", "real", "replayed", "simulator"]  # JSON is sorted
    assert rows["real"]["fad_ratio"]["mean"] == pytest.approx(1)
    assert rows["noise"]["recall"]["mean"] < rows["real"]["recall"]["mean"]
    assert results["protocol"]["tail"] == ["Pneumonia", "Bronchiolitis", "Pulmonary Fibrosis"]
    assert {bar["figure"] for bar in results["bars"]} >= {"recall_ratio_tail", "memorised", "fad_ratio"}
    for swap in ("style swap", "content swap"):  # chance is one in six; of four styles, one in four
        assert results["swaps"][swap]["p_acc"]["mean"] > 0.4
    assert results["swaps"]["style swap"]["own_style"]["mean"] > 0.45
    assert "Replayed: the real clips' units" in (tmp_path / "one" / "results.md").read_text()
    assert "release criteria met" in capsys.readouterr().out
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.wav")}
    assert len(made) == 6 * 4 * 6  # simulator, replayed, generator, noise, two swaps; 4 clips of 6 classes
    assert run(monkeypatch, *ARGS, *work, "--out", str(tmp_path / "two")) in (0, None)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.wav")} == made
    assert read_json(tmp_path / "two" / "results.json") == results
    page = (tmp_path / "two" / "page.html").read_text()
    assert page == (tmp_path / "one" / "page.html").read_text()
    assert str(tmp_path) not in page
