"""A conversation as a file: messages of each side, and nothing that was there is replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abliterate.chat.conversation import Conversation
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSides
from abliterate.chat.transcript import save_transcript, transcript
from abliterate.errors import InputError
from fixtures.chat import GOOD


def test_a_file_holds_what_was_said_on_every_side(sides: ChatSides, tmp_path: Path) -> None:
    conversations = [Conversation(side, ChatOptions(seed=3)) for side in sides.sides]
    for conversation in conversations:
        conversation.reset("Be brief.")
        conversation.messages = ({"role": "user", "content": GOOD}, {"role": "assistant", "content": "Ja, \u00fc!"})
    path = tmp_path / "kept.json"
    save_transcript(path, conversations)
    held = json.loads(path.read_text(encoding="utf-8"))
    assert held == transcript(conversations)
    assert [one["role"] for one in held["sides"]] == [side.role for side in sides.sides]
    assert [message["role"] for message in held["sides"][0]["messages"]] == ["system", "user", "assistant"]
    assert (held["seed"], held["temperature"]) == (3, 0.0)


def test_what_is_there_stays_and_what_cannot_be_written_is_one_line(sides: ChatSides, tmp_path: Path) -> None:
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    (tmp_path / "own.json").write_text("mine")
    with pytest.raises(InputError, match="is there already; give another name"):
        save_transcript(tmp_path / "own.json", conversations)
    assert (tmp_path / "own.json").read_text() == "mine"
    with pytest.raises(InputError, match="cannot be written"):
        save_transcript(tmp_path / "none" / "own.json", conversations)
