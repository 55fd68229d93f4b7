"""Thoughts and channels: the part of a reply that its reader sees."""

from __future__ import annotations

import re

from abliterate.prompts.chat_format import THINK_BLOCKS

REPLY_MARK = r"(?:<\|START_RESPONSE\|>|<\|END_RESPONSE\|>|<\|END_OF_TURN_TOKEN\|>|<\|return\|>|<\|end\|>|</?answer>|</?response>)"
REPLY_MARKS = re.compile(rf"^\s*{REPLY_MARK}|{REPLY_MARK}\s*$", re.I)
"""Marks that some models put around the reply itself: Cohere, gpt-oss, Hunyuan, Granite."""

HARMONY_STRIPPED = re.compile(r"^analysis.*?assistantfinal", re.I | re.S)
"""What is left of gpt-oss's channels when the tokenizer drops special tokens."""


def visible_reply(text: str) -> str:
    """Return the reply without its think blocks and surrounding whitespace.

    A block counts where it opens the reply. One that the template has opened leaves a closing tag without an
    opening one: the text up to it is thought. One that is never closed leaves an empty reply. Tags are
    matched without regard to case; a tag that an answer writes about, further down, stays.
    """
    rest, before = text.strip(), None
    while rest != before:
        before = rest
        rest = REPLY_MARKS.sub("", without_thought(HARMONY_STRIPPED.sub("", rest, count=1))).strip()
    return rest


def without_thought(text: str) -> str:
    """Drop the first think block where it opens `text`, or the end of one that the template has opened."""
    for opening, closing in THINK_BLOCKS:
        begin = re.search(re.escape(opening), text, re.I)
        end = re.search(re.escape(closing), text, re.I)
        # Markdown and the harmony header may come before the tag.
        if begin and not re.sub(r"[\s*_]|<\|start\|>assistant", "", text[: begin.start()], flags=re.I):
            end = re.search(re.escape(closing), text[begin.end() :], re.I)
            return text[begin.end() + end.end() :] if end else ""
        if end and (begin is None or end.start() < begin.start()):
            return text[end.end() :]
    return text
