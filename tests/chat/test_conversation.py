"""Turns of a conversation: each side with its own replies, to the end of the context."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerBase

from abliterate.chat.conversation import ChatReply, Conversation, encode, take_turn, user_message
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSides
from abliterate.errors import InputError
from abliterate.prompts.chat_format import ChatFormat
from fixtures.chat import BAD, GOOD


def test_one_turn_is_put_as_every_prompt_is(tokenizer: PreTrainedTokenizerBase) -> None:
    for chat in (ChatFormat(tokenizer), ChatFormat(tokenizer, system="Be short.")):
        assert encode(chat, [user_message(GOOD)]) == chat.encode([GOOD])[0]


def test_with_thinking_on_the_thought_stays_open(tokenizer: PreTrainedTokenizerBase) -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<bot><think>"
    ends = {
        thinking: tokenizer.decode(encode(ChatFormat(tokenizer, None, thinking, template), [user_message(GOOD)]))
        for thinking in ("on", "auto")
    }
    assert ends["on"].endswith("<think>")
    assert ends["auto"].endswith("</think>\n\n")


def test_a_template_that_takes_one_turn_says_so(tokenizer: PreTrainedTokenizerBase) -> None:
    once = "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}{{ messages[0].content }}"
    with pytest.raises(InputError, match="one turn only; it may not take several turns, /reset"):
        encode(ChatFormat(tokenizer, template=once), [user_message(GOOD), user_message(GOOD)])


@pytest.mark.slow
def test_several_turns_are_those_of_a_conversation_read_anew(sides: ChatSides) -> None:
    for side in sides.sides:
        going_on = Conversation(side, ChatOptions())
        for prompt in (BAD, GOOD, "Can you show me how to serve a plate of pasta?"):
            anew = Conversation(side, ChatOptions())
            anew.messages = going_on.messages
            assert [*take_turn([going_on], prompt)] == [*take_turn([anew], prompt)]
        assert [message["role"] for message in going_on.messages] == ["user", "assistant"] * 3


def test_each_side_remembers_its_own_replies(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    replies = [*take_turn(conversations, BAD)][-1]
    assert [reply.refused for reply in replies] == [True, False]
    for conversation, reply in zip(conversations, replies, strict=True):
        assert [dict(message) for message in conversation.messages] == [
            {"role": "user", "content": BAD}, {"role": "assistant", "content": reply.text}
        ]  # fmt: skip
        conversation.reset(None)
        assert conversation.messages == ()


def test_a_prompt_is_taken_again_at_another_temperature(sides: ChatSides) -> None:
    conversation = Conversation(sides.sides[0], ChatOptions())
    assert conversation.last_prompt is None
    first = [*take_turn([conversation], GOOD)][-1]
    assert conversation.last_prompt == GOOD
    said = conversation.messages
    conversation.take_back()
    assert conversation.messages == ()
    assert [*take_turn([conversation], GOOD)][-1] == first
    assert conversation.messages == said
    conversation.draw_at(5.0)
    drawn = []
    for _ in range(2):
        conversation.take_back()
        drawn.append([*take_turn([conversation], GOOD)][-1][0].tokens)
    assert len({first[0].tokens, *drawn}) == 3


def test_both_sides_grow_together(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    for place, replies in enumerate(take_turn(conversations, BAD)):
        for reply in replies:
            assert len(reply.tokens) == place + 1 or reply.ended


def test_a_reply_that_is_stopped_stays_part_of_the_conversation(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    rounds: list[tuple[ChatReply, ...]] = []
    for replies in take_turn(conversations, GOOD, lambda: len(rounds) == 3):
        rounds.append(replies)
    assert [reply.ended for reply in rounds[-1]] == ["stopped", "stopped"]
    assert [len(reply.tokens) for reply in rounds[-1]] == [3, 3]
    assert conversations[0].messages[-1]["content"] == rounds[-1][0].text
    going_on = [*take_turn(conversations, GOOD)][-1]
    assert [reply.ended for reply in going_on] == ["end", "end"]


def test_a_reply_ends_where_it_is_told_to(sides: ChatSides) -> None:
    conversation = Conversation(sides.sides[1], ChatOptions(max_new_tokens=4))
    reply = [*take_turn([conversation], GOOD)][-1][0]
    assert (len(reply.tokens), reply.ended) == (4, "length")


def test_a_conversation_that_outgrows_the_context_says_so(sides: ChatSides) -> None:
    conversations = [Conversation(side, ChatOptions(max_new_tokens=4)) for side in sides.sides]
    text = "decorate a shed " * 58
    reply = [*take_turn(conversations, text)][-1][0]
    assert reply.ended in ("length", "context")
    before = [conversation.messages for conversation in conversations]
    with pytest.raises(InputError, match=r"original: the conversation has \d+ tokens, the model's context 256; /reset"):
        next(take_turn(conversations, text))
    assert [conversation.messages for conversation in conversations] == before


def test_a_reply_ends_at_the_end_of_the_context(sides: ChatSides) -> None:
    chat = sides.sides[0].chat
    filled = next(count for count in range(300) if len(encode(chat, [user_message("shed " * count)])) > 250)
    left = 256 - len(encode(chat, [user_message("shed " * filled)]))
    conversation = Conversation(sides.sides[1], ChatOptions(temperature=50.0))
    reply = [*take_turn([conversation], "shed " * filled)][-1][0]
    assert reply.ended == "context" or len(reply.tokens) < left
    assert len(reply.tokens) <= left


def test_a_system_message_that_the_template_drops_leaves_the_conversation(sides: ChatSides) -> None:
    template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    side = replace(sides.sides[0], chat=replace(sides.sides[0].chat, template=template))
    conversation = Conversation(side, ChatOptions(max_new_tokens=2))
    [*take_turn([conversation], GOOD)]
    with pytest.raises(InputError, match="drops the system message"):
        conversation.reset("Be short.")
    assert conversation.chat.system is None
    assert len(conversation.messages) == 2


def test_a_thought_is_no_part_of_the_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    def reply(text: str) -> ChatReply:
        return ChatReply(tokenizer, tuple(tokenizer(text, add_special_tokens=False)["input_ids"]), "end")

    one = reply("<think>\nI can't assist with that request.\n</think>\n\nStart with a plan.<|user|>")
    assert one.answer == "Start with a plan."
    assert not one.refused
    assert one.text.startswith("<think>")
    assert "<|user|>" not in one.text
    plain = reply("I can't assist with that request.")
    assert plain.answer == plain.text
    assert plain.refused


def test_a_conversation_goes_on_under_another_edit(sides: ChatSides) -> None:
    original, edited = sides.sides
    assert edited.edit is not None
    conversation = Conversation(original, ChatOptions())
    (first,) = [*take_turn([conversation], BAD)][-1]
    conversation.turn_to(edited)
    conversation.take_back()
    assert (conversation.messages, conversation.last_prompt) == ((), None)
    (second,) = [*take_turn([conversation], BAD)][-1]
    assert [first.refused, second.refused] == [True, False]
    half = edited.under(replace(edited.edit, recipe=edited.edit.recipe.times(0.0)))
    conversation.turn_to(half)
    conversation.take_back()
    assert [*take_turn([conversation], BAD)][-1][0].text == first.text
    assert conversation.last_prompt == BAD
