"""The verb that chats begins as every conversation does."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.chat.options import ChatOptions
from abliterate.commands.chat import chat
from abliterate.errors import InputError
from abliterate.pipeline.condition_options import SaidTemplate
from fixtures.tiny_chat import in_float32


def test_it_begins_one_conversation_for_each_side() -> None:
    sides, (conversation,) = chat(in_float32(Path()), SaidTemplate(), ChatOptions(seed=5))
    assert conversation.side is sides.sides[0]
    assert conversation.settings.seed == 5
    with pytest.raises(InputError, match="both say how tokens are drawn"):
        chat(in_float32(Path()), SaidTemplate(generation="model"), ChatOptions(temperature=1.0))
