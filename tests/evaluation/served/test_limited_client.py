"""The client by itself: what it raises, and how much it reads. What users see of it is in test_endpoint."""

from __future__ import annotations

import asyncio
import time

import openai
import pytest

from abliterate.evaluation.served.limited_client import MOST_BYTES, LimitedClient, OverlongReplyError
from servers.chat_server import ChatServer, bomb, flood, trickle


def ask(server: ChatServer, seconds: float) -> bytes:
    async def asked() -> bytes:
        async with LimitedClient(timeout=openai.Timeout(seconds)) as client:
            request = {"model": "tiny", "messages": [{"content": "a"}]}
            content: bytes = (await client.post(f"{server.url}/v1/chat/completions", json=request)).content
            return content

    return asyncio.run(asked())


def test_a_reply_is_read_whole() -> None:
    with ChatServer() as server:
        assert b'"a"' in ask(server, 5)


@pytest.mark.parametrize("fault", [flood, bomb])
def test_no_more_is_read_than_the_limit(fault: object) -> None:
    with ChatServer() as server:
        server.faults.append(fault)  # type: ignore[arg-type]
        with pytest.raises(OverlongReplyError, match=f"more than {MOST_BYTES // 10**6} MB"):
            ask(server, 30)


def test_the_time_of_a_reply_is_that_of_its_last_byte() -> None:
    with ChatServer() as server:
        server.faults.append(trickle)
        begin = time.monotonic()
        with pytest.raises(Exception, match=r"no whole reply within 0\.4 s") as caught:
            ask(server, 0.4)
        assert type(caught.value).__name__ == "ReadTimeout"
        assert time.monotonic() - begin < 5
