"""Whole loops with planner ``llm`` and a chat server on this machine."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from agent_cli import run as run_cli
from agent_fakes import FakeRooms, config
from llm_server import ChatServer, Handler, chat_server, fail, say

from agent.loop import run_loop
from agent.stop import Stopped
from resp229k.corpus import Corpus
from training.errors import ConfigError, RunError

KEY = "sk-test-0123456789abcdef"


def propose(handler: Handler) -> None:
    """Give the whole budget to the weakest class that may be synthesized, in a style that has draws."""
    shown = json.loads(json.loads(handler.server.bodies[-1])["messages"][1]["content"])
    items: list[dict[str, Any]] = []
    left = shown["budget"]
    for label, c in sorted(shown["classes"].items(), key=lambda pair: pair[1]["f1"]):
        draws = {"own": left} if c["draws"] is None else c["draws"]
        for style, most in sorted(draws.items()):
            count = min(left, most)
            if c["plannable"] and count:
                items.append(
                    {"label": label, "count": count, "style": style, "reason": f"{KEY} F1 {c['f1']}"}
                )
                left -= count
    say(json.dumps({"items": items, "note": "weakest first"}))(handler)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("RESP_LLM_KEY", KEY)
    with chat_server() as found:
        found.script = [propose]
        yield found


def loop(
    server: ChatServer,
    run: Path,
    *,
    rounds: int = 1,
    budget: int = 6,
    resume: bool = False,
    rooms: FakeRooms | None = None,
    **llm: Any,
) -> dict:
    settings = {"base_url": server.url, "model": "m", "retries": 0, "max_wait": 0.01, **llm}
    values = {"planners": ["llm"], "rounds": rounds, "budget": budget, "llm": settings}
    # The report's plots would take most of a small loop's time.
    with patch("agent.loop.write_report"):
        return run_loop(config(**values), run, resume, rooms or FakeRooms(run))  # type: ignore[arg-type]


def plans(run: Path) -> dict[str, bytes]:
    found = {p.relative_to(run).as_posix(): p.read_bytes() for p in run.glob("rounds/*/plan-*/*.json")}
    return {name: data for name, data in found.items() if name.endswith(("plan.json", "llm.json"))}


def test_a_loop_is_planned_by_the_model_and_repeats_offline(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    results = loop(server, run, rounds=2)["results"]
    rounds = results["planners"]["llm"]["rounds"]
    assert [r["method"] for r in rounds] == ["baseline", "synthesize", "synthesize"]
    assert all(sum(r["planned"].values()) == 6 for r in rounds[1:])
    assert not any(r["stood_in"] for r in rounds)
    assert "both" in rounds[1]["planned"]  # never found by the stand-in's diagnoser
    assert len(server.bodies) == 2
    assert len(plans(run)) == 4

    # Aggregates only: no clip, recording, subject or path is in any request.
    sent = b"".join(server.bodies)
    for clip in Corpus.open(run / "corpus").clips:
        for name in (clip.clip_id, clip.recording_id, clip.subject_id, clip.path):
            assert name.encode() not in sent, name
    for secret in (str(tmp_path), "fake-a", "fake-b", KEY):
        assert secret.encode() not in sent

    # The server repeats the key in every reason; the run folder does not hold it.
    assert rounds[1]["items"][0]["reason"].startswith("[key] F1")
    for path in run.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path

    # A finished plan is not asked for again, not even without the checkpoints.
    (run / "checkpoints.sqlite").unlink()
    assert loop(server, run, rounds=2, resume=True)["results"] == results
    assert len(server.bodies) == 2

    monkeypatch.delenv("RESP_LLM_KEY")
    again = tmp_path / "again"
    assert loop(server, again, rounds=2, replay=str(run))["results"] == results
    assert plans(again) == plans(run)
    with pytest.raises(RunError, match=r"differs in: messages\.1\.content\.budget"):
        loop(server, tmp_path / "other", budget=5, replay=str(run))
    assert len(server.bodies) == 2


def test_a_round_that_the_thinker_planned_is_told(server: ChatServer, tmp_path: Path) -> None:
    server.script = [say("no"), say("no"), say("no"), say("no"), propose]
    rounds = loop(server, tmp_path / "run", rounds=2)["results"]["planners"]["llm"]["rounds"]
    assert [r["stood_in"] for r in rounds] == [False, True, False]


def test_a_loop_interrupted_after_the_plan_does_not_ask_again(server: ChatServer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    rooms = FakeRooms(run)
    rooms.fail_at = "generate"
    with pytest.raises(KeyboardInterrupt):
        loop(server, run, rooms=rooms)
    before = plans(run)
    assert len(before) == 2
    loop(server, run, resume=True)
    assert plans(run) == before
    assert len(server.bodies) == 1


def test_a_signal_ends_the_wait_for_a_model(server: ChatServer, tmp_path: Path) -> None:
    def stop(handler: Handler) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    server.script = [stop, propose]
    run = tmp_path / "run"
    began = time.monotonic()
    with pytest.raises(Stopped):
        loop(server, run)
    assert time.monotonic() - began < 15
    assert plans(run) == {}
    loop(server, run, resume=True)
    assert len(plans(run)) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"planners": ["llm"]}, r"needs an endpoint: set llm\.base_url and llm\.model"),
        ({"planners": ["llm"], "llm": {"base_url": "http://127.0.0.1:9/v1"}}, "llm.model"),
        ({"planners": ["none"], "llm": {"replay": "run"}}, "not among the planners"),
        ({"llm": {"key_env": KEY}}, "never the key itself"),
        ({"llm": {"api_key": KEY}}, r"unknown key 'llm\.api_key'"),
    ],
)
def test_wrong_settings_are_named_without_the_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        config(**values)
    assert KEY not in str(error.value)


def test_the_command_asks_for_a_word_before_it_trains(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    server.script = [fail(404, "no model m")]
    options = ["-o", "planners=[llm]", "-o", f"llm.base_url={server.url}", "-o", "llm.model=m"]
    assert run_cli(monkeypatch, "loop", *options) == 2
    assert not list(tmp_path.iterdir())
    (message,) = server.asked[0]["messages"]
    assert message["content"] == 'Answer with this JSON object: {"ready": true}'


def test_the_command_refuses_a_replay_of_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["-o", "planners=[llm]", "-o", "llm.base_url=http://127.0.0.1:9/v1", "-o", "llm.model=m"]
    assert run_cli(monkeypatch, "loop", *options, "--replay", "never") == 2
    assert run_cli(monkeypatch, "loop", "--replay", str(tmp_path)) == 2  # no planner llm in the preset
    assert not list(tmp_path.iterdir())
