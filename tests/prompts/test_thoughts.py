"""The model's own thoughts, to the token."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.think_blocks import Thought
from abliterate.prompts.thoughts import inside_thoughts, opened, thought_of, thought_places
from fixtures.thinker import thinker
from fixtures.tiny_chat import tiny_chat

PROMPTS = ["Name a river.", "How do I bake bread?", "Tell me a story.", "What is a boat?", "Why do cats purr?"]
SAID = "The request is to bake bread. That is fine.\n</think>\n\nSure. Bake."


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(thinker())


@pytest.fixture
def chat(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    return ChatFormat(tokenizer, thinking="on")


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_a_thought_that_ends_is_kept_to_the_token_and_the_reply_is_left_out(chat: ChatFormat) -> None:
    (block,) = chat.think_blocks(PROMPTS[:1])
    said = ids(chat.tokenizer, SAID)
    thought = thought_of(chat.tokenizer, said, block)
    assert thought.ended
    assert list(thought.tokens) == said[: len(thought.tokens)]
    assert chat.tokenizer.decode(list(thought.tokens)) == SAID.removesuffix("Sure. Bake.")


def test_a_thought_without_an_end_is_closed_where_it_stopped_and_says_so(chat: ChatFormat) -> None:
    (block,) = chat.think_blocks(PROMPTS[:1])
    said = ids(chat.tokenizer, "The request is to")
    thought = thought_of(chat.tokenizer, said, block)
    assert not thought.ended
    assert chat.tokenizer.decode(list(thought.tokens)) == "The request is to\n</think>\n\n"


def with_thoughts(chat: ChatFormat, prompts: list[str]) -> ChatFormat:
    blocks = chat.think_blocks(prompts)
    said = ids(chat.tokenizer, SAID)
    return replace(chat, thoughts={block.opened: thought_of(chat.tokenizer, said, block) for block in blocks})


def test_a_reply_is_asked_for_behind_the_thought_and_elsewhere_behind_an_empty_one(chat: ChatFormat) -> None:
    known = with_thoughts(chat, PROMPTS[:1])
    with_one, without = known.encode(PROMPTS[:2])
    assert chat.tokenizer.decode(with_one).endswith(f"<think>\n{SAID.removesuffix('Sure. Bake.')}")
    assert without == chat.encode(PROMPTS[1:2])[0]
    assert chat.tokenizer.decode(without).endswith("<think>\n\n</think>\n\n")
    (begun,) = opened(known, known.think_blocks(PROMPTS[:1]))
    assert with_one[: len(begun)] == begun


def test_prompts_take_turns_in_how_far_they_are_thought_about(chat: ChatFormat) -> None:
    known = with_thoughts(chat, PROMPTS)
    inside, begun, whole = (
        inside_thoughts(known, PROMPTS),
        opened(known, known.think_blocks(PROMPTS)),
        known.encode(PROMPTS),
    )
    shares = [
        (len(one) - len(first)) / (len(last) - len(first))
        for one, first, last in zip(inside, begun, whole, strict=True)
    ]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 0], abs=0.05)
    assert all(list(one) == last[: len(one)] for one, last in zip(inside, whole, strict=True))
    assert inside_thoughts(chat, PROMPTS) == []


def test_places_count_from_both_ends_and_cut_or_short_thoughts_have_none(chat: ChatFormat) -> None:
    known = with_thoughts(chat, PROMPTS[:2])
    short, cut = (block.opened for block in chat.think_blocks(PROMPTS[2:4]))
    known = replace(known, thoughts={**known.thoughts, short: Thought((5, 6), True), cut: Thought((7,) * 40, False)})
    texts, names = thought_places(known, PROMPTS[:4], 3)
    assert names == ("thought[0]", "thought[1]", "thought[2]", "thought[-3]", "thought[-2]", "thought[-1]")
    assert len(texts) == 2
    for text, begun in zip(texts, opened(known, known.think_blocks(PROMPTS[:2])), strict=True):
        assert text.place("thought[0]") == len(begun)
        assert text.place("thought[-1]") == len(text.tokens) - 1


def test_a_template_without_thoughts_says_what_to_do() -> None:
    with pytest.raises(InputError, match="--thought: the chat template knows no thoughts; leave it away"):
        replace(tiny_chat(), thinking="on").think_blocks(PROMPTS[:1])
