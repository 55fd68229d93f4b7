"""A server of the OpenAI chat protocol on this machine, whose faults are lined up by the test.

    with ChatServer() as server:
        server.url
        server.faults += [status(500), drop]     # what the next requests for a reply get; then replies follow
        server.requests                          # what was asked, in the order in which it came

A reply is what `server.reply` returns for the request; by default the last message, backwards.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


class ChatServer:
    def __init__(self, reply: Callable[[Request], str] | None = None, models: tuple[str, ...] = ("tiny",)) -> None:
        self.reply = reply or backwards
        self.models = models
        self.finish = "stop"
        self.key = ""
        self.faults: deque[Callable[[Handler], None]] = deque()
        self.requests: list[Request] = []
        self.released = threading.Event()
        """Set when the test is over: requests that hang end then."""
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.chat = self  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    @property
    def asked(self) -> list[str]:
        return [request["messages"][-1]["content"] for request in self.requests]

    def __enter__(self) -> ChatServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def chat(self) -> ChatServer:
        found = self.server.chat  # type: ignore[attr-defined]
        assert isinstance(found, ChatServer)
        return found

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self.send(404, {"detail": "Not Found"})
        if not self.allowed():
            return self.send(401, {"error": {"message": "who are you?"}})
        self.send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.chat.models]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            return self.send(404, {"detail": "Not Found"})
        self.chat.requests.append(request)
        if not self.allowed():
            return self.send(401, {"error": {"message": "who are you?"}})
        if self.chat.faults:
            return self.chat.faults.popleft()(self)
        if request["model"] not in self.chat.models:
            return self.send(404, {"error": {"message": f"The model `{request['model']}` does not exist."}})
        self.send(200, completion(self.chat.reply(request), self.chat.finish))

    def allowed(self) -> bool:
        return self.chat.key in ("", self.headers.get("Authorization", "").removeprefix("Bearer "))

    def send(self, code: int, body: object, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(code, json.dumps(body).encode(), headers)

    def send_bytes(self, code: int, body: bytes, headers: dict[str, str] | None = None, missing: int = 0) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) + missing))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def backwards(request: Request) -> str:
    return str(request["messages"][-1]["content"][::-1])


def completion(text: str | None, finish: str = "stop", **message: object) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }


def status(code: int, message: str = "out of order", **headers: str) -> Callable[[Handler], None]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.send(code, {"error": {"message": message, "code": code}}, named)


def body(content: bytes) -> Callable[[Handler], None]:
    """An answer with status 200 and this body."""
    return lambda handler: handler.send_bytes(200, content)


def hang(handler: Handler) -> None:
    """Answer nothing until the test is over."""
    handler.chat.released.wait(60)
    handler.close_connection = True


def drop(handler: Handler) -> None:
    """Break the connection in the middle of an answer."""
    handler.send_bytes(200, b'{"id": "1", "cho', missing=500)
    handler.close_connection = True


def trickle(handler: Handler) -> None:
    """Send a byte now and then until the test is over, or nobody listens."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    with suppress(OSError):
        while not handler.chat.released.wait(0.05):
            handler.wfile.write(b" ")


def flood(handler: Handler) -> None:
    """Send bytes without end, as long as somebody listens."""
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    with suppress(OSError):
        while not handler.chat.released.is_set():
            handler.wfile.write(b"f4240\r\n" + b" " * 1_000_000 + b"\r\n")


def bomb(handler: Handler) -> None:
    """Send a few kilobytes that unpack to many megabytes."""
    with suppress(OSError):
        handler.send_bytes(200, gzip.compress(b" " * 40_000_000), {"Content-Encoding": "gzip"})


def packed(encoding: str) -> Callable[[Handler], None]:
    """A reply in gzip that is said to be packed so."""
    content = gzip.compress(json.dumps(completion("packed")).encode())
    return lambda handler: handler.send_bytes(200, content, {"Content-Encoding": encoding})
