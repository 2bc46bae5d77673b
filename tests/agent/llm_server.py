"""A chat server on this machine that says what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers request n with the n-th answer of the script; the last one answers all further requests."""

    server: ChatServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            place = min(len(self.server.bodies), len(self.server.script) - 1)
            self.server.bodies.append(body)
            self.server.paths.append(self.path)
            self.server.headers.append(dict(self.headers.items()))
        self.close_connection = True
        with suppress(OSError):  # the client hangs up in some tests
            self.server.script[place](self)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *values: object) -> None:
        """Keep quiet."""


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.script: list[Answer] = []
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.sent = 0  # bytes of a flood that went out

    def handle_error(self, request: Any, address: Any) -> None:
        """A client that hung up is no error here."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def envelope(content: Any, **message: Any) -> dict[str, Any]:
    """A whole reply as OpenAI, vLLM, Ollama and DeepSeek send it."""
    finish = message.pop("finish_reason", "stop")
    return {
        "id": "chat-1",
        "object": "chat.completion",
        "model": "served",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def say(content: Any, **message: Any) -> Answer:
    return raw(json.dumps(envelope(content, **message)).encode())


def raw(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return lambda handler: handler.reply(status, body, headers)


def fail(status: int, message: str = "no", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return raw(json.dumps({"error": {"message": message}}).encode(), status, named)


def late(seconds: float) -> Answer:
    return lambda handler: time.sleep(seconds)


def drip(seconds: float) -> Answer:
    """A byte every 10 ms: no single read is ever late."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(int(seconds / 0.01)):
            handler.wfile.write(b" ")
            time.sleep(0.01)

    return answer


def cut(handler: Handler) -> None:
    """Half a body, then a reset connection."""
    handler.send_response(200)
    handler.send_header("content-length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def flood(megabytes: int) -> Answer:
    """A body without a stated length."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        block = b" " * (1 << 16)
        for _ in range(megabytes * 16):
            handler.wfile.write(block)
            handler.server.sent += len(block)

    return answer
