"""Thoughts and channels: the part of a reply that its reader sees."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from abliterate.prompts.think_blocks import THINK_BLOCKS

REPLY_MARK = r"(?:<\|START_RESPONSE\|>|<\|END_RESPONSE\|>|<\|END_OF_TURN_TOKEN\|>|<\|return\|>|<\|end\|>|</?answer>|</?response>)"
LEADING_MARK = re.compile(rf"\s*{REPLY_MARK}", re.I)
TRAILING_MARK = re.compile(rf"{REPLY_MARK}\Z", re.I)
"""Marks that some models put around the reply itself: Cohere, gpt-oss, Hunyuan, Granite."""

LONGEST_MARK = 24

HARMONY_STRIPPED = ("analysis", "assistantfinal")
"""What is left of gpt-oss's channels when the tokenizer drops special tokens."""

BEFORE_A_BLOCK = re.compile(r"(?:[\s*_]|<\|start\|>assistant)*", re.I)
"""Markdown and the harmony header may come before the tag."""

SPACE = re.compile(r"\s*")


def visible_reply(text: str) -> str:
    """Return the reply without its think blocks and surrounding whitespace.

    A block counts where it opens the reply. One that the template has opened leaves a closing tag without an
    opening one: the text up to it is thought. One that is never closed leaves an empty reply. Tags are
    matched without regard to case; a tag that an answer writes about, further down, stays. The work grows with the
    length of the text and no faster, whatever it repeats.
    """
    return Rest(text).visible()


class Tags:
    """Where each tag stands in a text, found once; `after` asks for the first at or behind a place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: dict[str, list[int]] = {}

    def after(self, tag: str, place: int, end: int) -> int | None:
        """Return where `tag` begins at or behind `place` and ends by `end`; None where it does not."""
        if tag not in self.found:
            self.found[tag] = [match.start() for match in re.finditer(re.escape(tag), self.text, re.I)]
        places = self.found[tag]
        number = bisect_left(places, place)
        return places[number] if number < len(places) and places[number] + len(tag) <= end else None


class Rest:
    """What is left of a reply: from `start` to `end` of its text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.start, self.end = 0, len(text)
        self.tags = Tags(text)

    def visible(self) -> str:
        """Take off spaces, marks and thoughts until nothing changes, and return what is left."""
        before: tuple[int, int] | None = None
        while before != (self.start, self.end):
            self.strip()
            before = (self.start, self.end)
            self.drop_stripped_channels()
            self.drop_thought()
            self.drop_marks()
        return self.text[self.start : self.end]

    def strip(self) -> None:
        """Take off the spaces at both ends."""
        found = SPACE.match(self.text, self.start, self.end)
        self.start = found.end() if found else self.start
        while self.end > self.start and self.text[self.end - 1].isspace():
            self.end -= 1

    def drop_stripped_channels(self) -> None:
        """Take off the analysis of gpt-oss where only the names of its channels are left."""
        opening, closing = HARMONY_STRIPPED
        if self.tags.after(opening, self.start, self.end) == self.start:
            place = self.tags.after(closing, self.start + len(opening), self.end)
            self.start = self.start if place is None else place + len(closing)

    def drop_thought(self) -> None:
        """Take off the first think block where it opens the rest, or the end of one that the template has opened."""
        for start in self.starts_behind_a_thought():
            self.start = start
            return

    def starts_behind_a_thought(self) -> Iterator[int]:
        """Yield where the rest begins behind a thought of each kind of block."""
        for opening, closing in THINK_BLOCKS:
            begin = self.tags.after(opening, self.start, self.end)
            end = self.tags.after(closing, self.start, self.end)
            if begin is not None and BEFORE_A_BLOCK.fullmatch(self.text, self.start, begin):
                end = self.tags.after(closing, begin + len(opening), self.end)
                yield self.end if end is None else end + len(closing)
            if end is not None and (begin is None or end < begin):
                yield end + len(closing)

    def drop_marks(self) -> None:
        """Take off a mark of the reply itself at either end."""
        self.strip()
        if leading := LEADING_MARK.match(self.text, self.start, self.end):
            self.start = leading.end()
        tail = self.text[max(self.start, self.end - LONGEST_MARK) : self.end]
        if trailing := TRAILING_MARK.search(tail):
            self.end -= len(tail) - trailing.start()
