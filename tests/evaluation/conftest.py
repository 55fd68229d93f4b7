"""A server to ask, and no key of the user's that could go there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers.chat_server import ChatServer


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server
