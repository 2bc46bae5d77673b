"""The chat client against a real server on this machine: good, broken, slow and hostile replies."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from llm_server import ChatServer, chat_server, cut, drip, envelope, fail, flood, late, raw, say

from agent.config import LLMSettings
from agent.llm.client import MAX_REPLY, Client, ModelError, retry_after
from agent.llm.text import clean, only_object, strict_json
from training.errors import ConfigError

KEY = "sk-test-0123456789abcdef"
ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("RESP_LLM_KEY", KEY)
    with chat_server() as found:
        yield found


def client(server: ChatServer, **values: Any) -> tuple[Client, list[float]]:
    """A client that notes its pauses instead of waiting."""
    pauses: list[float] = []
    settings = LLMSettings(**{"base_url": server.url, "model": "m", "timeout": 30, **values})
    return Client(settings, 0, pauses.append), pauses


def test_a_good_reply_and_what_is_asked(server: ChatServer) -> None:
    server.script = [say("{}")]
    reply = client(server)[0].chat(ASK)
    assert (reply.content, reply.finish, reply.model) == ("{}", "stop", "served")
    assert reply.tokens == {"completion_tokens": 20, "prompt_tokens": 100, "total_tokens": 120}
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.asked == [
        {
            "model": "m",
            "messages": ASK,
            "temperature": 0,
            "max_tokens": 8192,
            "response_format": {"type": "json_object"},
        }
    ]


def test_no_key_no_header(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESP_LLM_KEY")
    server.script = [say("hi")]
    assert client(server)[0].chat(ASK, json_mode=False).content == "hi"
    assert "Authorization" not in server.headers[0]
    assert "response_format" not in server.asked[0]


@pytest.mark.parametrize("status", [400, 422])
def test_json_mode_unknown_to_the_server_is_left_out_from_then_on(server: ChatServer, status: int) -> None:
    server.script = [fail(status, "'response_format.type' must be 'json_schema' or 'text'"), say("{}")]
    asker, pauses = client(server)
    assert asker.chat(ASK).left_out == ["response_format"]
    assert asker.chat(ASK).content == "{}"
    assert [("response_format" in body) for body in server.asked] == [True, False, False]
    assert pauses == []


def test_other_fields_that_a_server_does_not_know_are_left_out(server: ChatServer) -> None:
    server.script = [
        fail(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        fail(400, "Unsupported value: 'temperature' does not support 0"),
        say("{}"),
    ]
    reply = client(server)[0].chat(ASK)
    assert reply.left_out == ["max_tokens", "temperature"]
    assert server.asked[-1] == {
        "model": "m",
        "messages": ASK,
        "max_completion_tokens": 8192,
        "response_format": {"type": "json_object"},
    }


def test_a_request_refused_for_good_is_told(server: ChatServer) -> None:
    server.script = [fail(400, "context length exceeded")]
    with pytest.raises(ConfigError, match=r"refused: context length exceeded \(HTTP 400\)"):
        client(server)[0].chat(ASK)
    assert len(server.bodies) == 2  # once more without JSON mode, no retries


@pytest.mark.parametrize(
    ("status", "message", "cure"),
    [
        (401, "the key is refused", "RESP_LLM_KEY"),
        (403, "the key is refused", "RESP_LLM_KEY"),
        (404, "no such address, or no model 'm': no", "/v1"),
        (400, "refused: no", "what the server allows"),
        (402, "refused: no", "pay for the account"),
        (413, "refused: no", "longer requests"),
        (307, "redirects", "final address"),
    ],
)
def test_what_the_user_must_mend_is_told_at_once(
    server: ChatServer, status: int, message: str, cure: str
) -> None:
    server.script = [fail(status, location="http://127.0.0.1:1/")]
    with pytest.raises(ConfigError, match=message) as error:
        client(server)[0].chat(ASK)
    assert cure in (error.value.cure or "")
    assert len(server.bodies) == (2 if status == 400 else 1)  # once more without JSON mode


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_talk_that_is_refused_later_is_the_models_failure(server: ChatServer, status: int) -> None:
    server.script = [say("{}"), fail(status, "content filter"), fail(status, "content filter")]
    asker, pauses = client(server)
    assert asker.chat(ASK).content == "{}"
    with pytest.raises(ModelError, match=f"refused: content filter .HTTP {status}"):
        asker.chat(ASK)
    assert pauses == []


@pytest.mark.parametrize("status", [409, 500, 501, 520, 524, 599])
def test_what_the_server_may_mend_is_tried_again(server: ChatServer, status: int) -> None:
    server.script = [fail(status), say("{}")]
    asker, pauses = client(server)
    assert asker.chat(ASK).content == "{}" and len(pauses) == 1


@pytest.mark.parametrize("host", ["xn--a", "-bücher-.de"])
def test_a_host_that_is_no_name_is_told_before_anything_is_sent(host: str) -> None:
    with pytest.raises(ConfigError, match=r"llm\.base_url is no address"):
        Client(LLMSettings(base_url=f"http://{host}/v1", model="m"))


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "socks9://127.0.0.1:1080"])
def test_a_proxy_that_cannot_be_used_is_told_before_anything_is_sent(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigError, match="a proxy that the environment sets cannot be used") as refusal:
        Client(LLMSettings(base_url="https://api.deepseek.com", model="m"))
    assert "httpx[socks]" in refusal.value.cure
    Client(
        LLMSettings(base_url="http://127.0.0.1:11434/v1", model="m")
    )  # no proxy stands before this machine


def test_a_missing_key_is_told_apart_from_a_wrong_one(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESP_LLM_KEY")
    server.script = [fail(401)]
    with pytest.raises(ConfigError, match="a key is needed"):
        client(server)[0].chat(ASK)


def test_retry_after_is_obeyed_and_capped(server: ChatServer) -> None:
    server.script = [fail(429, retry_after="7"), fail(503, retry_after="3600"), say("{}")]
    asker, pauses = client(server, max_wait=20)
    assert asker.chat(ASK).content == "{}"
    assert 7 <= pauses[0] <= 7.2
    assert pauses[1] == 20


def test_retry_after_in_seconds_and_as_a_date() -> None:
    now = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT (RFC 9110, section 5.6.7)
    assert retry_after("120", now) == 120
    assert retry_after(" 1.5 ", now) == 1.5
    assert retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now) == 30
    assert retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now) == 0
    for nonsense in (None, "", "nan", "-1", "inf", "soon", "1" * 400, "Sun, 99 Nov 1994 08:50:07 GMT"):
        assert retry_after(nonsense, now) is None


def test_pauses_double_with_jitter_of_the_seed(server: ChatServer) -> None:
    server.script = [fail(503)]
    asker, pauses = client(server, retries=4, max_wait=6)
    with pytest.raises(ModelError, match=r"no reply after 5 attempts: HTTP 503: no"):
        asker.chat(ASK)
    assert len(server.bodies) == 5
    for attempt, pause in enumerate(pauses):
        assert min(6, 0.5 * 2**attempt) <= pause <= min(6, 2**attempt)
    again, same = client(server, retries=4, max_wait=6)
    with pytest.raises(ModelError):
        again.chat(ASK)
    assert same == pauses


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (cut, r"connection failed \((ReadError|RemoteProtocolError)\)"),
        (raw(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), "not UTF-8"),
        (raw(b"[" * 200_000), "nested too deeply"),
        (raw(b'{"choices":' * 90_000), "nested too deeply"),
        (raw(b"<html>Bad gateway</html>"), "no JSON"),
        (raw(b"[]"), "holds no reply"),
        (raw(b'{"choices": []}'), "holds no reply"),
        (raw(b'{"choices": [null]}'), "holds no reply"),
        (raw(b'{"error": {"message": "overloaded"}}'), "holds no reply: overloaded"),
        (raw(b'{"choices": [{"message": "text"}]}'), "holds no reply"),
        (raw(b""), "no JSON"),
    ],
)
def test_broken_exchanges_are_retried_then_told(server: ChatServer, answer: Any, reason: str) -> None:
    server.script = [answer, answer, say("{}")]
    asker, pauses = client(server, retries=1)
    with pytest.raises(ModelError, match=reason):
        asker.chat(ASK)
    assert (len(server.bodies), len(pauses)) == (2, 1)
    assert asker.chat(ASK).content == "{}"


@pytest.mark.parametrize("answer", [late(6.0), drip(6.0)])
def test_a_silent_and_a_dripping_server_are_left_in_time(server: ChatServer, answer: Any) -> None:
    server.script = [answer]
    asker, pauses = client(server, timeout=0.2, retries=1)
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"nothing complete within 0\.2 s"):
        asker.chat(ASK)
    assert 0.4 <= time.monotonic() - began < 5
    assert len(pauses) == 1


@pytest.mark.parametrize("stated", [True, False])
def test_ten_megabytes_are_cut_off_and_never_held(server: ChatServer, stated: bool) -> None:
    body = b" " * (10 << 20)
    server.script = [raw(body) if stated else flood(10)]
    asker, _ = client(server)
    tracemalloc.start()
    with pytest.raises(ModelError, match="longer than 1 MiB"):
        asker.chat(ASK)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * MAX_REPLY
    assert len(server.bodies) == 1
    assert server.sent < 10 << 20


def test_a_server_that_is_not_there() -> None:
    settings = LLMSettings(base_url="http://127.0.0.1:9/v1", model="m", retries=0)
    with pytest.raises(ModelError, match=r"connection failed \(ConnectError\)"):
        Client(settings).chat(ASK)


def test_thinking_refusals_parts_and_strange_types(server: ChatServer) -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "{}"}, 7]
    server.script = [
        say("{}", reasoning_content="because"),
        say("{}", reasoning="because"),
        say(None, refusal="I cannot", finish_reason=None),
        say(parts),
        say(5, reasoning_content=[1], finish_reason=3),
        raw(json.dumps({**envelope("a\ud800b"), "usage": {"total_tokens": "9", "x": 1}}).encode()),
    ]
    asker, _ = client(server)
    replies = [asker.chat(ASK) for _ in server.script]
    assert [r.reasoning for r in replies[:2]] == ["because", "because"]
    assert (replies[2].content, replies[2].refusal, replies[2].finish) == ("", "I cannot", "")
    assert replies[3].content == "{}"
    assert (replies[4].content, replies[4].reasoning, replies[4].finish) == ("", "", "")
    assert (replies[5].content, replies[5].tokens) == ("a?b", {})


def test_the_key_is_struck_out_of_replies_and_errors(server: ChatServer) -> None:
    escaped = "".join(f"\\u{ord(c):04x}" for c in KEY)
    server.script = [
        say(f'{{"note": "{KEY}"}}', reasoning_content=KEY, refusal=KEY),
        say(f'{{"note": "{escaped}"}}'),
    ]
    asker, _ = client(server, retries=0)
    reply = asker.chat(ASK)
    assert (reply.content, reply.reasoning, reply.refusal) == ('{"note": "[key]"}', "[key]", "[key]")
    assert asker.chat(ASK).content == '{"note": "[key]"}'
    server.script = [fail(418, f"you sent {KEY}")]
    with pytest.raises(ConfigError, match=r"you sent \[key\]"):
        asker.chat(ASK)
    server.script = [fail(500, f"Bearer {KEY}")]
    with pytest.raises(ModelError, match=r"Bearer \[key\]"):
        asker.chat(ASK)
    server.script = [fail(401, f"Incorrect API key: {KEY[:9]}***{KEY[-4:]}")]
    with pytest.raises(ConfigError) as error:
        asker.chat(ASK)
    assert KEY[:9] not in str(error.value)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("RESP_LLM_KEY", key)
    with pytest.raises(ConfigError, match="RESP_LLM_KEY holds no key") as error:
        Client(LLMSettings(base_url="http://127.0.0.1:9/v1", model="m"))
    assert key not in str(error.value)


def test_a_client_without_an_address_tells_the_cure() -> None:
    with pytest.raises(ConfigError, match=r"llm\.base_url and llm\.model"):
        Client(LLMSettings())


def test_it_works_where_a_loop_runs_already(server: ChatServer) -> None:
    server.script = [say("{}")]
    asker, _ = client(server)

    async def notebook() -> str:
        return asker.chat(ASK).content

    assert asyncio.run(notebook()) == "{}"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        ' \n{"a": 1}\n',
        '```json\n{"a": 1}\n```',
        '```\n{"a": 1}\n```',
        'Here it is:\n```json\n{"a": 1}\n```\nI hope it helps.',
        '<think>{"a": 2}, or not?</think>\n{"a": 1}',
        '<think>\nhm\n</think>\n\n```json\n{"a": 1}\n```',
        'hm</think>{"a": 1}',  # some templates open the thinking themselves
    ],
)
def test_a_single_object_is_found(text: str) -> None:
    assert only_object(text) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("<think>so", "inside <think>"),
        ("<think>so</think>", "empty"),
        ("I would give crackle more.", "not one JSON object"),
        ('{"a": 1} {"a": 2}', "not one JSON object"),
        ('Sure: {"a": 1}', "not one JSON object"),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', "not one JSON object"),
        ("[1]", "not an object"),
        ('{"a": 1, "a": 2}', "occurs twice"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "no number"),
        ('{"a": ' + "9" * 5000 + "}", "not one JSON object"),
        ("{" + '"a":{' * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_anything_else_is_named(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        only_object(text)


def test_strict_json_reads_bytes() -> None:
    assert strict_json('{"ä": [1.5, null]}'.encode()) == {"ä": [1.5, None]}
    with pytest.raises(ValueError, match="UTF-8"):
        strict_json(b'"\xff"')


def test_names_lose_what_could_leave_their_place() -> None:
    assert clean("a\nb\r\x00\x1b[31mc\u202e\u2028d\ue000") == "a b [31mc d"
    assert clean("Fibrosis  of\tthe lung") == "Fibrosis of the lung"
    assert clean("x" * 900, 10) == "x" * 10
    assert clean("肺炎 \ud800!") == "肺炎 !"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"key_env": KEY}, "never the key itself"),
        ({"key_env": "0123456789abcdef0123"}, "never the key itself"),
        ({"api_key": KEY}, "extra_forbidden"),
        ({"base_url": f"https://user:{KEY}@host/v1"}, "must hold no user"),
        ({"base_url": f"https://host/v1?key={KEY}"}, "must hold no user, key or query"),
        ({"base_url": "host:80/v1"}, "no http"),
        ({"base_url": "file:///etc/passwd"}, "no http"),
        ({"base_url": "http://host/\n"}, "no http"),
        ({"base_url": "http://host:99999/"}, "Port"),
        ({"repairs": 4}, "repairs"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_settings_refuse_keys_and_nonsense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LLMSettings(**values)
    assert LLMSettings(base_url="http://[::1]:8000/v1/").base_url == "http://[::1]:8000/v1"
