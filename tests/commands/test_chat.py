"""The verb that chats: a conversation for each side, asked as the run of the edit asked."""

from __future__ import annotations

from pathlib import Path

from abliterate.chat.options import ChatOptions
from abliterate.commands.chat import chat
from abliterate.pipeline.condition_options import SaidTemplate
from abliterate.pipeline.run import Result
from fixtures.tiny_chat import TINY, in_float32


def test_each_side_has_a_conversation_and_the_note_says_how_it_is_asked(edited: Result) -> None:
    options = ChatOptions(max_new_tokens=7)
    sides, conversations = chat(in_float32(Path(), model=str(edited.out)), SaidTemplate(), options, str(TINY))
    assert [one.side for one in conversations] == list(sides.sides)
    assert len(conversations) == 2
    assert {one.settings.max_new_tokens for one in conversations} == {7}
    assert sides.note.count("\n") >= 1
    alone, (conversation,) = chat(in_float32(Path()), SaidTemplate(system="Be brief."), options)
    assert conversation.side is alone.sides[0]
