"""How both sides begin: a conversation for each side, asked as the run of the edit asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.chat.begin import begin
from abliterate.chat.options import ChatOptions
from abliterate.errors import InputError
from abliterate.pipeline.condition_options import SaidTemplate
from fixtures.tiny_chat import TINY, in_float32


def test_each_side_has_a_conversation_and_the_note_says_how_it_is_asked(edited: Path) -> None:
    options = ChatOptions(max_new_tokens=7)
    sides, conversations = begin(in_float32(Path(), model=str(edited)), SaidTemplate(), options, str(TINY))
    assert [one.side for one in conversations] == list(sides.sides)
    assert len(conversations) == 2
    assert {one.settings.max_new_tokens for one in conversations} == {7}
    assert sides.note.count("\n") >= 1
    alone, (conversation,) = begin(in_float32(Path()), SaidTemplate(system="Be brief."), options)
    assert conversation.side is alone.sides[0]


def test_two_ways_to_draw_are_one_too_many() -> None:
    with pytest.raises(InputError, match="--temperature and --generation model both say"):
        begin(in_float32(Path()), SaidTemplate(generation="model"), ChatOptions(temperature=1.0))
