"""The commands of the encoder's training refuse what they cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "masked", "--corpus", "nowhere", "--out", "x"], "nowhere"),
        (["train", "tokenizer", "--corpus", "nowhere", "--out", "x"], "teacher"),
        (["train", "masked", "--corpus", "c", "--out", "x", "-o", "units=nowhere"], "nowhere"),
        (["train", "tagged", "--corpus", "c", "--out", "x", "-o", "step=3"], "step"),
        (["beats", "compare", "--out", "x", "--recipe", "magic", "-o", "root=null"], "magic"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["resp-agent", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
