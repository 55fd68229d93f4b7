"""Replies of served models, kept as they arrive.

One file for each way of asking (who answers, and with which settings), named by their hash; one record for each
conversation, named by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from abliterate.storage.record_log import RecordLog, digest

CachedConversation = Sequence[Mapping[str, str]]
"""Messages of `role` and `content`, as chat templates take them."""


@dataclass(frozen=True)
class CachedReply:
    """A reply, why it ended, and of how many tokens it is.

    `finish` is what the server says: "stop", or "length" where the limit cut it. An empty text with "length" is a
    thought that took the whole limit. `tokens` counts thoughts too, and is None where the server does not tell.
    `cached` says that nobody was asked.
    """

    text: str
    finish: str
    tokens: int | None
    cached: bool = False


@dataclass(frozen=True)
class ReplyCache:
    """A folder of kept replies; it is made when the first reply is kept."""

    folder: Path

    def under(self, settings: Mapping[str, object]) -> KeptReplies:
        """Open the replies that were given under `settings`: everything that the reply depends on but the conversation.

        Raises InputError when they cannot be read.
        """
        return KeptReplies(self.folder / f"{digest(dict(settings))}.jsonl")


class KeptReplies:
    """The replies of one file: those that it held when it was opened, and those added since."""

    def __init__(self, path: Path) -> None:
        """Read `path` where it is there. Raises InputError when it cannot be read."""
        self.path = path
        self._records = RecordLog(path)

    def __len__(self) -> int:
        return len(self._records)

    def known(self, key: str) -> CachedReply | None:
        """Return the reply kept under `key`, marked as cached, or None; a record of another shape counts as none."""
        record = self._records.known(key) or {}
        text, finish, tokens = (record.get(name) for name in ("text", "finish", "tokens"))
        if not isinstance(text, str) or not isinstance(finish, str) or not (tokens is None or type(tokens) is int):
            return None
        return CachedReply(text, finish, tokens, cached=True)

    def add(self, key: str, answer: CachedReply) -> None:
        """Keep a reply: on return a kill of this process does not lose it.

        Raises InputError when it cannot be written.
        """
        self._records.add(key, {"text": answer.text, "finish": answer.finish, "tokens": answer.tokens})


def reply_key(conversation: CachedConversation) -> str:
    """Return the name under which the reply to a conversation is kept."""
    return digest([dict(message) for message in conversation])
