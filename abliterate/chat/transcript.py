"""A conversation as a file: what was said on every side, as chat messages that any library takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from abliterate.chat.conversation import Conversation
from abliterate.errors import InputError
from abliterate.storage.atomic import written_whole


def transcript(conversations: Sequence[Conversation]) -> dict[str, Any]:
    """Return role, name and messages of every side, and how their replies were made."""
    sides = [
        {"role": one.side.role, "name": one.side.name, "messages": [*system_messages(one), *map(dict, one.messages)]}
        for one in conversations
    ]
    settings = conversations[0].settings
    return {"temperature": settings.temperature, "seed": settings.seed, "sides": sides}


def system_messages(one: Conversation) -> list[dict[str, str]]:
    """Return the system message of a conversation, if it has one."""
    return [] if one.chat.system is None else [{"role": "system", "content": one.chat.system}]


def save_transcript(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write the conversation to a new JSON file. Raises InputError where one is there, and where none can be written."""
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: is there already; give another name")
    text = json.dumps(transcript(conversations), ensure_ascii=False, indent=2) + "\n"
    try:
        with written_whole(path) as partial:
            partial.write_bytes(text.encode("utf-8", errors="replace"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); give another name") from error
