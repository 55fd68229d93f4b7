"""The model's own thoughts before its replies: cut out of what it said, and the places in them.

    thought[k]    the k-th token of the thought, from 0; thought[-1] is the last before the reply begins

A thought that the model has ended is kept to the token, with its closing tag and the spaces behind it: ids that were generated
need not be those that the same text is read as.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.texts import Text, TokenText
from abliterate.prompts.think_blocks import ThinkBlock, Thought

KL_PARTS = 4
"""Places of a thought, from its beginning on, at which what an edit changes is followed: each prompt has one of them."""


def thought_of(tokenizer: PreTrainedTokenizerBase, said: Sequence[int], block: ThinkBlock) -> Thought:
    """Return the thought in what a model said from an open one on; one without an end is closed where it stopped."""
    found = TokenText(tokenizer, tuple(said))
    begin = found.text.find(block.tag)
    if begin < 0:
        return Thought((*said, *tokenizer(block.closed, add_special_tokens=False)["input_ids"]), ended=False)
    count = found.token_of(begin + len(block.tag)) + 1
    while count < len(said) and not tokenizer.decode([said[count]]).strip():
        count += 1
    return Thought(tuple(said[:count]), ended=True)


def opened(chat: ChatFormat, blocks: Sequence[ThinkBlock]) -> list[list[int]]:
    """Return the token ids of prompts up to the first token of a thought."""
    return chat.tokens_of([block.opened for block in blocks])


def inside_thoughts(chat: ChatFormat, prompts: Sequence[str]) -> list[tuple[int, ...]]:
    """Return each prompt with a part of its thought, from none to three quarters, taking turns; nothing without thoughts."""
    if not chat.thoughts:
        return []
    found, blocks = [], chat.think_blocks(prompts)
    for number, (block, tokens) in enumerate(zip(blocks, opened(chat, blocks), strict=True)):
        thought = chat.thoughts[block.opened].tokens
        found.append((*tokens, *thought[: len(thought) * (number % KL_PARTS) // KL_PARTS]))
    return found


def thought_places(chat: ChatFormat, prompts: Sequence[str], count: int) -> tuple[list[Text], tuple[str, ...]]:
    """Return prompts with their thoughts, and the names of the first and last `count` places in these.

    Those whose thought is shorter, or was cut, are left out: their places would be others.
    """
    names = (*(f"thought[{place}]" for place in range(count)), *(f"thought[{place}]" for place in range(-count, 0)))
    texts, blocks = [], chat.think_blocks(prompts)
    for block, tokens in zip(blocks, opened(chat, blocks), strict=True):
        thought = chat.thoughts[block.opened]
        if thought.ended and len(thought.tokens) >= count:
            first, end = len(tokens), len(tokens) + len(thought.tokens)
            places = [*range(first, first + count), *range(end - count, end)]
            texts.append(Text((*tokens, *thought.tokens), dict(zip(names, places, strict=True))))
    return texts, names
