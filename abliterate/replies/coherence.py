"""Does a reply say anything? A rule of text alone: empty replies, and the same again and again.

A strong edit can leave a model that declines nothing because it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from itertools import pairwise

LONG = 12
"""Words from which on a reply is long enough to go round in circles."""

DISTINCT = 0.34
"""Share of different words below which a long reply repeats itself; ordinary text of 32 tokens is far above."""

TAIL_UNITS = 4
"""So many times the same phrase at the end of a reply is a loop, however it began."""

CHARACTERS = 2
"""So many characters count as a word where words are not set apart."""

UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
"""Han, Hiragana and Katakana."""

REPEATED_UNIT = re.compile(rf"(?!\W)[{UNSPACED}]|[^\W{UNSPACED}]+")

UNSPACED_HANGUL = re.compile("[가-힣]{13}")
"""Korean is written with spaces: so many syllables in a row are no word."""


STUCK = re.compile(r"([^\W\d_])\1{15}")
"""One letter so many times in a row: nobody draws a word out as long."""


def is_incoherent(reply: str) -> bool:
    """Return whether `reply` is empty, without a single letter or digit, or a loop."""
    words = re.findall(r"\w+", reply.casefold())
    characters = characters_of(reply.casefold())
    # Few characters make many words, and ordinary text repeats them: kana above all, of which there are few. Not so
    # pairs of neighbours: of those of ordinary text more than half differ, of Chinese as of Japanese all in Hiragana.
    pairs = list(pairwise(characters))
    if not words or STUCK.search(reply):
        return True
    return goes_round(words, words, LONG) or goes_round(characters, pairs, CHARACTERS * LONG)


def characters_of(text: str) -> list[str]:
    """Return the words of a text; where they are not set apart by spaces, its characters."""
    runs: list[str] = REPEATED_UNIT.findall(text)
    return [part for run in runs for part in (run if UNSPACED_HANGUL.search(run) else [run])]


def goes_round(units: Sequence[str], marks: Sequence[Hashable], long: int) -> bool:
    """Return whether too few of the `marks` differ, where there are `long` of them, or the units end in a loop."""
    if len(marks) >= long and len(set(marks)) < DISTINCT * len(marks):
        return True
    return any(ends_in_a_loop(units, length, long // 2) for length in range(1, len(units) // TAIL_UNITS + 1))


def ends_in_a_loop(units: Sequence[str], length: int, least: int) -> bool:
    """Return whether the last `length` units are a phrase that comes again and again before the end.

    That is: at least `TAIL_UNITS` times in a row, and so often that these make at least `least` units. A single word must
    come `least` times, since "no, no, no, no" is speech.
    """
    times = max(TAIL_UNITS, -(-least // length))
    phrase = list(units[-length:])
    return list(units[-times * length :]) == phrase * times
