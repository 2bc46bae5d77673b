"""``resp-agent chat`` in this process, with a chat server on this machine."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_cli import run as run_cli
from chat_fakes import call
from llm_server import ChatServer, chat_server, fail, say

from resp229k.audio import write_wav

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ChatServer]:
    monkeypatch.setenv("RESP_LLM_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with chat_server() as found:
        yield found


def chat(monkeypatch: pytest.MonkeyPatch, server: ChatServer, *args: str) -> int | str | None:
    llm = (f"llm.base_url={server.url}", "llm.model=m", "llm.retries=0", "llm.max_wait=0.01")
    return run_cli(monkeypatch, "chat", *(part for value in llm for part in ("-o", value)), *args)


def spoken(server: ChatServer, *turns: dict) -> None:
    server.script = [say(json.dumps(turn, ensure_ascii=False)) for turn in turns]


def test_asking_once_prints_the_answer_alone(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoken(server, {"say": "你好 [bold]"})
    assert chat(monkeypatch, server, "--ask", "你好", "--log", "chat.jsonl") == 0
    printed = capsys.readouterr()
    assert printed.out == "你好 [bold]\n"
    told = " ".join(printed.err.split())
    assert "(this machine) is sent what you type" in told and "never audio" in told
    (body,) = server.asked
    assert set(body) == {"model", "messages", "temperature", "max_tokens", "response_format"}
    assert body["messages"][1] == {"role": "user", "content": "你好"}
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    log = Path("chat.jsonl").read_text(encoding="utf-8")
    assert "你好" in log and KEY not in log
    assert chat(monkeypatch, server, "--ask", "again", "--log", "chat.jsonl") == 2
    assert "exists already" in capsys.readouterr().err


def test_a_pipe_is_a_chat_in_which_nothing_long_is_done(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("run a round\n\n谢谢\n"))
    Path("work").mkdir()
    spoken(server, call("round", run="runs/one"), {"say": "It was declined."}, {"say": "不客气"})
    assert chat(monkeypatch, server, "--folder", "work") == 0
    printed = capsys.readouterr()
    assert printed.out == "It was declined.\n不客气\n"
    assert "declined: run 1 round(s) of quickstart" in " ".join(printed.err.split())
    assert not list(Path("work").iterdir()) and Path("work").resolve() != Path.cwd()


def test_yes_allows_and_pictures_lie_in_the_folder(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent_fakes import tone

    write_wav(Path("work/a.wav"), tone(400, 1), synthetic=False)
    spoken(server, call("spectrogram", recording="a.wav", out="a.png"), {"say": "drawn"})
    assert chat(monkeypatch, server, "--folder", "work", "--yes", "--ask", "draw a.wav") == 0
    assert Path("work/a.png").read_bytes()[:4] == b"\x89PNG"


def test_a_server_that_fails_once_does_not_end_the_chat(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    server.script = [fail(503, "busy"), say('{"say": "here"}')]
    assert chat(monkeypatch, server) == 0
    printed = capsys.readouterr()
    assert printed.out == "here\n" and "busy" in printed.err
    server.script = [fail(503, "busy")]
    assert chat(monkeypatch, server, "--ask", "three") == 2


def test_what_only_the_user_can_mend_ends_the_chat(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    server.script = [fail(401, f"bad key {KEY}")]
    assert chat(monkeypatch, server) == 2
    printed = capsys.readouterr().err
    assert "the key is refused" in printed and KEY not in printed and len(server.bodies) == 1
    assert chat(monkeypatch, server, "--folder", "none") == 2
    assert chat(monkeypatch, server, "-o", "llm.replay=runs/x") == 2
    assert run_cli(monkeypatch, "chat", "--ask", "hello") == 2
    assert "llm.base_url" in capsys.readouterr().err


def test_ctrl_c_ends_the_chat(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    assert chat(monkeypatch, server) == 130
