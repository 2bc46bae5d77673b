"""Client of any chat endpoint that speaks OpenAI's protocol. Every exchange is bounded in bytes and time.

The key comes from the environment, goes into one header and is struck out of whatever comes back.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NoReturn, TypeVar

import httpx
import numpy as np

from agent.config import LLMSettings
from agent.llm.text import clean, strict_json
from training.config import Strict
from training.errors import ConfigError, RespError

MAX_REPLY = 1 << 20  # bytes; a long chain of thought has some 100 kB
SHORTEST_KEY = 8  # characters; what is shorter ("none", "ollama") is a placeholder, no secret
HIDDEN = "[key]"
TRANSIENT = frozenset({408, 409, 425, 429})  # and whatever is the server's own fault, 500 and above
CURES = {
    400: "set llm.model and the other settings under llm: to what the server allows",
    402: "pay for the account at the server, or take another one: llm.base_url, llm.model",
    413: "take a model that reads longer requests: llm.model",
}
OPTIONAL = ("response_format", "temperature", "max_tokens")  # what a server may not know

Message = dict[str, str]
T = TypeVar("T")


class ModelError(RespError):
    """The model's server is down, too slow, or sends what is no reply."""


class Reply(Strict):
    """What the model said. ``left_out`` are the request's fields that its server refused."""

    content: str = ""
    reasoning: str = ""
    refusal: str = ""
    finish: str = ""
    model: str = ""
    tokens: dict[str, int] = {}
    left_out: list[str] = []


class _Retry(Exception):
    """An exchange failed in a way that may pass; ``after`` is the pause the server asks for in s."""

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


class Client:
    """Chat with the model of the settings.

    Args:
        settings: of the endpoint.
        seed: of the pauses between retries.
        sleep: stands in for :func:`time.sleep` (tests).

    Raises:
        ConfigError: there is no address or model, or the key cannot go into a header.
    """

    def __init__(self, settings: LLMSettings, seed: int = 0, sleep: Callable[[float], None] = time.sleep):
        if settings.base_url is None or settings.model is None:
            raise ConfigError(
                "no model to ask: llm.base_url and llm.model are not both set",
                cure="for a local Ollama: -o llm.base_url=http://127.0.0.1:11434/v1 -o llm.model=qwen3",
            )
        self.settings = settings
        self.url = f"{settings.base_url}/chat/completions"
        try:
            self.local = _is_loopback(httpx.URL(self.url).host)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ConfigError(
                f"llm.base_url is no address ({error})",
                path=self.url,
                cure="give one such as http://127.0.0.1:11434/v1",
            ) from None
        self._check_proxies()
        self._answered = False
        self._key = _read_key(settings.key_env)
        self._left_out: list[str] = []
        self._random = np.random.default_rng(seed)
        self._sleep = sleep

    def _check_proxies(self) -> None:
        """Refuse what the environment sets as a proxy and cannot be one, before anything long has begun."""
        try:
            httpx.Client(trust_env=not self.local, verify=_tls()).close()
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise ConfigError(
                f"a proxy that the environment sets cannot be used ({error})",
                path=self.url,
                cure="look at HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; for socks5:// run `pip install 'httpx[socks]'`",
            ) from None

    def chat(self, messages: Sequence[Message], *, json_mode: bool = True) -> Reply:
        """One reply to the messages.

        Raises:
            ConfigError: the server refuses the key, the address, the model or the request.
            ModelError: no usable reply came after all retries, or a later request of a talk was refused.
        """
        for attempt in range(self.settings.retries + 1):
            try:
                return self._attempt(messages, json_mode)
            except _Retry as error:
                reason, after = str(error), error.after
            if attempt < self.settings.retries:
                self._sleep(self._pause(attempt, after))
        raise ModelError(
            f"no reply after {self.settings.retries + 1} attempts: {reason}",
            path=self.url,
            cure="see whether the server is up, or raise llm.timeout and llm.retries",
        )

    def _attempt(self, messages: Sequence[Message], json_mode: bool) -> Reply:
        """Ask once; again at once without a field that the server says it does not know."""
        while True:
            body = self._body(messages, json_mode)
            status, headers, received = _run(self._exchange(body))
            if status == httpx.codes.OK:
                reply = self._read(received)
                self._answered = True
                return reply
            said = self._said(received)
            unknown = [n for n in OPTIONAL if n in body and n in said] or ["response_format"]
            if status in (400, 422) and unknown[0] in body:
                self._left_out.append(unknown[0])
                continue
            self._refuse(status, headers, said)

    def _body(self, messages: Sequence[Message], json_mode: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": list(messages),
            "temperature": self.settings.temperature,
            "max_tokens": self.settings.max_tokens,
        }
        if json_mode:
            body["response_format"] = {"type": "json_object"}
        for name in self._left_out:
            body.pop(name, None)
        if "max_tokens" in self._left_out:  # the newer name; older servers know only the other
            body["max_completion_tokens"] = self.settings.max_tokens
        return body

    async def _exchange(self, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        """POST the body; status, headers and at most ``MAX_REPLY`` bytes of the reply."""
        # A packed reply could unfold to any size, so none is asked for.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "resp-agent"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        received = bytearray()
        seconds = self.settings.timeout
        try:
            # The limit holds for the whole exchange: a server that drips bytes is late as well.
            async with (
                asyncio.timeout(seconds),
                httpx.AsyncClient(timeout=None, trust_env=not self.local, verify=_tls()) as client,  # noqa: S113
                client.stream("POST", self.url, json=body, headers=headers) as response,
            ):
                if int(response.headers.get("content-length", 0)) > MAX_REPLY:
                    raise self._too_long()
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > MAX_REPLY:
                        raise self._too_long()
        except TimeoutError:
            raise _Retry(f"nothing complete within {seconds:g} s") from None
        except httpx.HTTPError as error:
            raise _Retry(f"the connection failed ({type(error).__name__})") from None
        return response.status_code, response.headers, bytes(received)

    def _too_long(self) -> ModelError:
        return ModelError(
            f"the reply is longer than {MAX_REPLY >> 20} MiB and was cut off",
            path=self.url,
            cure="see what runs at this address",
        )

    def _read(self, received: bytes) -> Reply:
        """The reply in a body of status 200."""
        try:
            value = strict_json(received)
            message = value["choices"][0]["message"]
            finish, used = value["choices"][0].get("finish_reason"), value.get("usage")
            content = message.get("content")
        except ValueError as error:
            raise _Retry(f"the body is no JSON: {error}") from None
        except (AttributeError, KeyError, IndexError, TypeError):
            raise _Retry(f"the body holds no reply: {self._said(received)}") from None
        if isinstance(content, list):  # some servers send parts; thinking has a type of its own
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "".join(text for text in texts if isinstance(text, str))
        counts = {k: v for k, v in used.items() if type(v) is int} if isinstance(used, dict) else {}
        return Reply(
            content=self._text(content),
            reasoning=self._text(message.get("reasoning_content") or message.get("reasoning")),
            refusal=self._text(message.get("refusal")),
            finish=clean(self._text(finish)),
            model=clean(self._text(value.get("model"))),
            tokens={k: counts[k] for k in sorted(counts) if re.fullmatch(r"[a-z_]{1,40}_tokens", k)},
            left_out=list(self._left_out),
        )

    def _text(self, value: Any) -> str:
        """A string that can be written as UTF-8 and does not hold the key, not even behind escapes."""
        if not isinstance(value, str):
            return ""
        text = value.encode("utf-8", "replace").decode()
        if len(self._key) < SHORTEST_KEY:
            return text
        plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).replace("\\/", "/")
        if self._key in plain:
            text = plain.encode("utf-8", "replace").decode()
        return text.replace(self._key, HIDDEN)

    def _said(self, received: bytes) -> str:
        """The server's own words for an error, in one short line."""
        text = received.decode(errors="replace")
        try:
            value = strict_json(text)
        except ValueError:
            value = text
        if isinstance(value, dict):
            value = value.get("error", value.get("message", value.get("detail")))
        if isinstance(value, dict):
            value = f"{value.get('message')} {value.get('param') or ''}"
        return clean(self._text(value if isinstance(value, str) else text), 300)

    def _refuse(self, status: int, headers: httpx.Headers, said: str) -> NoReturn:
        """Raise what a status other than 200 means."""
        settings = self.settings
        if status in TRANSIENT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _Retry(f"HTTP {status}: {said}", retry_after(headers.get("retry-after"), time.time()))
        if status in (401, 403):
            # The server's words are left out: some show part of the key.
            cure = f"put a valid key into the environment variable {settings.key_env}"
            problem = "the key is refused" if self._key else "a key is needed"
        elif status == httpx.codes.NOT_FOUND:
            cure = "llm.base_url mostly ends with /v1, and llm.model must be one that the server lists"
            problem = f"no such address, or no model {settings.model!r}: {said}"
        elif status < httpx.codes.BAD_REQUEST:
            cure = "set llm.base_url to the final address: a redirect could take the key elsewhere"
            problem = "the server redirects, which is not followed"
        else:
            cure, problem = CURES.get(status, CURES[400]), f"the request is refused: {said}"
            # The settings are right: this talk grew too long, or its words displease.
            if self._answered and status in (400, 413, 422):
                raise ModelError(f"{problem} (HTTP {status})", path=self.url, cure=cure)
        raise ConfigError(f"{problem} (HTTP {status})", path=self.url, cure=cure)

    def _pause(self, attempt: int, after: float | None) -> float:
        """Seconds to wait: what the server asks for, or a doubling time; never above ``max_wait``."""
        jitter = float(self._random.uniform(0.5, 1.0))  # runs that failed together do not retry together
        asked = 2.0**attempt * jitter if after is None else after + 0.1 * jitter
        return min(asked, self.settings.max_wait)


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, section 10.2.3), given the Unix time.

    None where it is missing or neither seconds nor a date.
    """
    if header is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", header.strip()):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, OverflowError):
        return None


@cache
def _tls() -> ssl.SSLContext:
    """The certificates trusted, read once: that takes longer than a request to a local server."""
    return httpx.create_ssl_context()


def _is_loopback(host: str) -> bool:
    """Whether the host is this machine, which no proxy stands before."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_key(name: str) -> str:
    """The key in the environment; empty where there is none."""
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"the environment variable {name} holds no key", cure="set it to the key alone")
    return key


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, also where a loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
