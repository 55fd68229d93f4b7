"""Sessions on the tiny model, whose edit runs as hooks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate.chat.conversation import Conversation
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSides, open_sides
from abliterate.lab.choices import choices_of
from abliterate.lab.session import Session
from abliterate.pipeline.run import Result
from fixtures.chat import options
from fixtures.tiny_chat import TINY


@pytest.fixture(scope="session")
def folder(edited: Result) -> Path:
    return edited.out


@pytest.fixture(scope="session")
def sides(folder: Path) -> ChatSides:
    return open_sides(options(folder), str(TINY))


@pytest.fixture
def begun(folder: Path, sides: ChatSides) -> Callable[..., Session]:
    """Begins sessions, each with conversations of its own on the same weights."""

    def begin(**settings: object) -> Session:
        edit = sides.sides[-1].edit
        assert edit is not None
        conversations = [Conversation(side, ChatOptions(**settings)) for side in sides.sides]  # type: ignore[arg-type]
        return Session(conversations, choices_of(folder, "edited"), edit.architecture)

    return begin


@pytest.fixture
def session(begun: Callable[..., Session]) -> Session:
    return begun()
