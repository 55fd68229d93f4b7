"""Replies of served models, kept as they arrive.

One file for each way of asking (who answers, and with which settings), named by their hash; one record for each
conversation, named by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from abliterate.errors import InputError
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
    """A folder of kept replies; it is made when the first reply is kept.

    One that cannot be used ends nothing: replies are then not kept, and `notes` say so.
    """

    folder: Path
    problems: list[str] = field(default_factory=list, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return one line where replies could not be kept, or none."""
        return tuple(
            f"replies could not all be kept ({problem}): another command will ask for them again"
            for problem in self.problems[:1]
        )

    def under(self, settings: Mapping[str, object]) -> KeptReplies:
        """Open the replies that were given under `settings`: everything that the reply depends on but the conversation."""
        return KeptReplies(self.folder / f"{digest(dict(settings))}.jsonl", self.problems)


class KeptReplies:
    """The replies of one file: those that it held when it was opened, and those added since."""

    def __init__(self, path: Path, problems: list[str] | None = None) -> None:
        """Read `path` where it is there; what keeps it from being read or written is added to `problems`."""
        self.path = path
        self.problems = problems if problems is not None else []
        self._records: RecordLog | None = None
        try:
            self._records = RecordLog(path)
        except InputError as error:
            self.problems.append(str(error))

    def __len__(self) -> int:
        return len(self._records) if self._records is not None else 0

    def known(self, key: str) -> CachedReply | None:
        """Return the reply kept under `key`, marked as cached, or None."""
        record = self._records.known(key) if self._records is not None else None
        if record is None or not is_reply(*(record.get(name) for name in ("text", "finish", "tokens"))):
            return None  # of another version, or damaged: asked again
        return CachedReply(record["text"], record["finish"], record["tokens"], cached=True)

    def add(self, key: str, answer: CachedReply) -> None:
        """Keep a reply: on return a kill of this process does not lose it, unless `problems` say that it could not be kept."""
        if self._records is None or self.problems:
            return  # a full disk is not tried again with every reply
        try:
            self._records.add(key, {"text": answer.text, "finish": answer.finish, "tokens": answer.tokens})
        except InputError as error:
            self.problems.append(str(error))


def is_reply(text: object, finish: object, tokens: object) -> bool:
    """Tell whether these are of the types that a reply is made of."""
    counted = tokens is None or (isinstance(tokens, int) and not isinstance(tokens, bool))
    return isinstance(text, str) and isinstance(finish, str) and counted


def reply_key(conversation: CachedConversation) -> str:
    """Return the name under which the reply to a conversation is kept."""
    return digest([dict(message) for message in conversation])
