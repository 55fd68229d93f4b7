"""Replies of a served model, set by set."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.evaluation.served.endpoint import Endpoint
from abliterate.evaluation.served.replies import served_replies
from abliterate.evaluation.served.reply_cache import ReplyCache
from servers.chat_server import ChatServer

SETS = {"harmful": ("one", "two"), "none": (), "harmless": ("three", "one")}


def test_each_set_has_the_replies_to_its_own_prompts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ChatServer() as server:
        endpoint, cache = Endpoint(server.url, "tiny"), ReplyCache(tmp_path / "replies.jsonl")
        found, cached = served_replies(endpoint, SETS, 16, system="Be brief.", cache=cache)
        assert cached == 0
        assert {name: [reply.text for reply in one] for name, one in found.items()} == {
            "harmful": ["eno", "owt"],
            "none": [],
            "harmless": ["eerht", "eno"],
        }
        assert [reply.prompt for reply in found["harmless"]] == ["three", "one"]
        assert {(reply.served, reply.tokens, reply.length) for one in found.values() for reply in one} == {
            (True, (), 7)
        }
        assert all(request["messages"][0] == {"role": "system", "content": "Be brief."} for request in server.requests)
        again, cached = served_replies(
            endpoint, SETS, 16, system="Be brief.", cache=ReplyCache(tmp_path / "replies.jsonl")
        )
        assert (again, cached) == (found, 4)
        asked = len(server.requests)
        served_replies(endpoint, SETS, 16, cache=cache)  # without the system message it is another conversation
        assert len(server.requests) > asked
        assert [message["role"] for message in server.requests[-1]["messages"]] == ["user"]
