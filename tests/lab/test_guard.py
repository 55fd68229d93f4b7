"""Who is let in: the token, under one of the server's own names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from abliterate.lab.guard import SAFE, Guard

HOST, TOKEN = "127.0.0.1:8765", "sesame"


def answered(path: str = "/", query: str = "", **headers: str) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of the answer to a request."""
    guarded = Guard(PlainTextResponse("in"), [HOST, "localhost:8765"], TOKEN)
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(guarded(scope, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


@pytest.mark.parametrize(
    ("status", "query", "headers"),
    [
        (200, f"token={TOKEN}", {"host": HOST}),
        (200, f"token={TOKEN}", {"host": "localhost:8765"}),
        (200, "", {"host": HOST, "authorization": f"Bearer {TOKEN}"}),
        (200, "", {"host": HOST, "authorization": f"Bearer {TOKEN}", "origin": f"http://{HOST}"}),
        (403, "", {"host": HOST}),
        (403, "token=", {"host": HOST}),
        (403, f"token={TOKEN}x", {"host": HOST}),
        (403, "token=%C3%A9", {"host": HOST}),
        (403, "", {"host": HOST, "authorization": TOKEN}),
        (403, f"token={TOKEN}", {"host": HOST, "authorization": "Bearer other"}),
        (403, f"token={TOKEN}", {}),
        (403, f"token={TOKEN}", {"host": "evil.example:8765"}),
        (403, f"token={TOKEN}", {"host": "127.0.0.1"}),
        (403, f"token={TOKEN}", {"host": "127.0.0.1:8766"}),
        (403, f"token={TOKEN}", {"host": HOST, "origin": "http://evil.example"}),
        (403, f"token={TOKEN}", {"host": HOST, "origin": "null"}),
    ],
)
def test_who_is_let_in(status: int, query: str, headers: dict[str, str]) -> None:
    found, said = answered(query=query, **headers)
    assert found == status
    assert {name: said.get(name) for name in SAFE} == SAFE
    assert not [name for name in said if name.startswith("access-control")]


def test_what_is_no_request_is_not_answered() -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError("it was let in")

    asyncio.run(Guard(never, [HOST], TOKEN)({"type": "websocket"}, never, never))
