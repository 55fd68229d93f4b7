"""Replies kept on disk as they arrive, so that a run that was killed goes on where it stopped.

One file of JSON lines for each way of asking (who answers, and with which settings), named by their hash; one line for
each conversation, named by its hash. Nothing is ever rewritten: a line is appended in one write, so that several
processes may keep replies in the same folder, and what a kill has torn is skipped when the file is read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from abliterate.errors import InputError

Conversation = Sequence[Mapping[str, str]]
"""Messages of `role` and `content`, as chat templates take them."""


@dataclass(frozen=True)
class Answer:
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
        """Read `path` where it is there."""
        self.path = path
        self._answers = read_answers(path)

    def __len__(self) -> int:
        return len(self._answers)

    def known(self, key: str) -> Answer | None:
        """Return the reply kept under `key`, marked as cached, or None."""
        return self._answers.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep a reply: on return a kill of this process does not lose it.

        Raises InputError when it cannot be written.
        """
        record = {"key": key, "text": answer.text, "finish": answer.finish, "tokens": answer.tokens}
        line = json.dumps(record).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                # A torn line is left where it is: to cut it off could cut a line that another process adds meanwhile.
                line = b"\n" + line if ends_torn(file) else line
                if file.write(line) != len(line):
                    raise OSError("no space left on device")
        except OSError as error:
            raise InputError(
                f"cannot keep replies in {self.path.parent}: {error.strerror or error}; free space there or choose "
                "another cache folder, the replies kept so far stay"
            ) from error
        self._answers[key] = replace(answer, cached=True)


def reply_key(conversation: Conversation) -> str:
    """Return the name under which the reply to a conversation is kept."""
    return digest([dict(message) for message in conversation])


def digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_answers(path: Path) -> dict[str, Answer]:
    """Return the replies of a file by key; lines that a kill has torn are skipped.

    Raises InputError when the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; choose another cache folder") from error
    answers = {}
    for line in lines:
        try:
            record = json.loads(line)
            answers[record["key"]] = Answer(record["text"], record["finish"], record["tokens"], cached=True)
        except (
            ValueError,
            KeyError,
            TypeError,
        ):  # torn: not JSON, or by chance the beginning of a number or of nothing
            continue
    return answers


def ends_torn(file: BinaryIO) -> bool:
    """Return whether the file's last line has no end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
