"""What a server may answer: so long, so large, and of the protocol's types; all else is one line within seconds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.evaluation.served import reply_limits
from abliterate.evaluation.served.endpoint import Endpoint, endpoint_replies, served_model
from abliterate.evaluation.served.reply_cache import ReplyCache
from fixtures.patience import patience
from servers.chat_server import ChatServer, Handler, completion

ASKED = [[{"role": "user", "content": "Name three colours."}]]


def trickle(handler: Handler) -> None:
    handler.send_bytes(200, b"", missing=1000)
    handler.close_connection = True
    try:
        while not handler.chat.released.wait(0.2):
            handler.wfile.write(b" ")
    except OSError:
        pass  # the client has gone


def flood(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.close_connection = True
    try:
        while not handler.chat.released.is_set():
            handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
    except OSError:
        pass  # the client has gone


def packed(handler: Handler) -> None:
    handler.send_bytes(200, gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"})


def elsewhere(handler: Handler) -> None:
    handler.send_bytes(307, b" " * 100_000, {"Location": "/v1/chat/completions"})


def failure(fault: Callable[[Handler], None], server: ChatServer, **how: float) -> str:
    server.faults.append(fault)
    with pytest.raises(InputError) as caught:
        endpoint_replies(Endpoint(server.url, "tiny", retries=0, **how), ASKED, 8, cache=None)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_trickle_ends_at_the_deadline(server: ChatServer) -> None:
    with patience():
        said = failure(trickle, server, timeout=1.5)
    assert "gave no answer within 1.5 s, 1 times" in said


def test_an_answer_without_end_is_given_up(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_limits, "MOST_BYTES", 1_000_000)
    assert "answers with more than 1 MB; give the URL of a chat server" in failure(flood, server)


def test_a_compressed_answer_is_not_unpacked(server: ChatServer) -> None:
    assert "compresses its answers (gzip), although they were asked for as they are" in failure(packed, server)


def test_a_long_page_of_a_redirect_is_not_read(server: ChatServer) -> None:
    assert "redirects without end" in failure(elsewhere, server)


def test_a_redirect_is_followed(server: ChatServer) -> None:
    server.faults.append(lambda handler: handler.send_bytes(307, b"", {"Location": "/v1/chat/completions"}))
    assert endpoint_replies(Endpoint(server.url, "tiny", retries=0), ASKED, 8, cache=None)[0].text


BODIES = {
    "a number": completion(5),  # type: ignore[arg-type]
    "parts": completion([{"type": "text", "text": "hi"}]),  # type: ignore[arg-type]
    "tokens in words": {**completion("x"), "usage": {"completion_tokens": "many"}},
    "a finish that is a list": completion("x", ["stop"]),  # type: ignore[arg-type]
    "no choices": {**completion("x"), "choices": []},
    "choices of nothing": {**completion("x"), "choices": [None]},
    "a list": [],
}


@pytest.mark.parametrize("body", [*map(json.dumps, BODIES.values()), "[" * 200_000, "null", ""], ids=[*BODIES, *"123"])
def test_an_answer_of_other_types_is_one_line_and_not_kept(server: ChatServer, body: str, tmp_path: Path) -> None:
    server.faults.append(lambda handler: handler.send_bytes(200, body.encode()))
    endpoint, cache = Endpoint(server.url, "tiny", retries=0), ReplyCache(tmp_path)
    with pytest.raises(InputError, match="does not speak the OpenAI chat protocol"):
        endpoint_replies(endpoint, ASKED, 8, cache=cache)
    assert endpoint_replies(endpoint, ASKED, 8, cache=cache)[0].text  # the same command goes on


def test_half_of_a_surrogate_pair_becomes_a_mark(server: ChatServer, tmp_path: Path) -> None:
    server.faults.append(lambda handler: handler.send_bytes(200, json.dumps(completion("a\ud800b")).encode()))
    assert endpoint_replies(Endpoint(server.url, "tiny"), ASKED, 8, cache=ReplyCache(tmp_path))[0].text == "a?b"


@pytest.mark.parametrize(
    "url", ["http://localhost:1/\x1b", "http://localhost:1/a b", "http://local\x00host", "http://[::1"]
)
def test_a_url_that_no_request_can_carry(url: str) -> None:
    with pytest.raises(InputError, match="is not the URL of a server"):
        Endpoint(url)


def test_a_list_of_models_that_nests_without_end() -> None:
    with ChatServer() as server:
        server.models = ("[" * 10,)
        assert served_model(Endpoint(server.url)) == "[" * 10
