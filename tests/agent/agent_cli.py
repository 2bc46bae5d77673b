"""The command in this process, as a shell would end it."""

import sys

import pytest

import agent.cli as cli


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    """The exit code of ``resp-agent ARGS``, without the real recordings."""
    monkeypatch.delenv("RESP_DATA", raising=False)
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "error")
    monkeypatch.setattr(sys, "argv", ["resp-agent", *args])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code
