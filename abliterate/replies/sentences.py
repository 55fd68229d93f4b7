"""Sentences and clauses of a text, with their places in characters: English, Korean, and whatever else sentencex knows.

A line end always ends a sentence. In a line that begins with a list marker (`1.`, `2)`, `-`, `*`), each item is one
segment, however many sentences it holds, and no clauses are cut out of it; elsewhere a marker belongs to the sentence
behind it, never to itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import sentencex

MARKER = re.compile(r"\s*(?:[-*•–]|\d{1,2}[.)]|[A-Za-z]\))(?:\s+|$)")
"""What a list item begins with."""

ENDING = re.compile(r"[.!?。！？…]+[\"'”’»」』)\]*_`]*$")
"""How a sentence ends that nothing follows."""

CLAUSES: dict[str, tuple[re.Pattern[str], ...]] = {
    language: tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)
    for language, patterns in {
        "": (r"(?<=[;:；：])\s+", r"(?<=[—–])\s+", r"(?<=\S—)(?=\w)", r"(?<=--)\s+"),
        "en": (r"(?<=,)\s+(?=(?:but|however)\b)", r"(?<=,)\s+(?=so (?:I|we)\b)"),
        "ko": (r"(?<=지만)\s+", r"(?<=지만,)\s+", r"(?<=[다요,])\s+(?=(?:하지만|그러나|그렇지만|다만)(?:[,\s]|$))"),
    }.items()
}
"""The gaps between clauses, by language; those under no name are of all languages. A line more splits further."""


@dataclass(frozen=True)
class Segment:
    """A piece of a text, `text[begin:end]`, without the space around it.

    `finished` says whether it came to its end: the last of a text that was cut off did not.
    """

    begin: int
    end: int
    text: str
    finished: bool = True


def sentences(text: str, language: str = "en") -> tuple[Segment, ...]:
    """Return the sentences of a text in order; together they hold every character that is no space."""
    pieces = [piece for begin, line in lines(text) for piece in sentences_of_line(begin, line, language)]
    found = [trimmed(text, begin, end) for begin, end in pieces]
    return tuple(
        Segment(begin, end, text[begin:end], place + 1 < len(found) or ended(text, begin, end))
        for place, (begin, end) in enumerate(found)
    )


def clauses(text: str, language: str = "en") -> tuple[Segment, ...]:
    """Return the sentences of a text cut further into clauses, by `CLAUSES`; list items stay whole."""
    return tuple(clause for sentence in sentences(text, language) for clause in clauses_of(sentence, language))


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield every line that is not blank, with its first character's place."""
    for line in re.finditer(r"[^\n]+", text):
        if line[0].strip():
            yield line.start(), line[0]


def sentences_of_line(start: int, line: str, language: str) -> list[tuple[int, int]]:
    """Return begin and end, in the text, of the sentences or list items of one line."""
    bounds = [(one["start_index"], one["end_index"]) for one in sentencex.get_sentence_boundaries(language, line)]
    listed = MARKER.match(line) is not None
    joined: list[tuple[int, int]] = []
    for begin, end in bounds:
        piece = line[begin:end]
        after_marker = joined and MARKER.fullmatch(line[slice(*joined[-1])])
        inside_item = joined and listed and not MARKER.match(piece)
        if joined and (after_marker or inside_item or not re.search(r"\w", piece)):  # such as closing asterisks
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return [(start + begin, start + end) for begin, end in joined if line[begin:end].strip()]


def trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """Return the bounds without the space inside of them."""
    piece = text[begin:end]
    return begin + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def ended(text: str, begin: int, end: int) -> bool:
    """Whether the last segment of a text came to its end: by its punctuation, or by a line end behind it."""
    piece = text[begin:end]
    if MARKER.fullmatch(piece):
        return False
    return "\n" in text[end:] or ENDING.search(piece) is not None


def clauses_of(sentence: Segment, language: str) -> Iterable[Segment]:
    """Yield the clauses of one sentence."""
    if MARKER.match(sentence.text):
        return [sentence]
    gaps = {
        gap.span()
        for name in ("", language)
        for pattern in CLAUSES.get(name, ())
        for gap in pattern.finditer(sentence.text)
        if gap.end() < len(sentence.text)
    }
    begins = [0, *sorted(end for _, end in gaps)]
    ends = [*sorted(begin for begin, _ in gaps), len(sentence.text)]
    return [
        Segment(
            sentence.begin + begin,
            sentence.begin + end,
            sentence.text[begin:end],
            sentence.finished or place + 1 < len(begins),
        )
        for place, (begin, end) in enumerate(zip(begins, ends, strict=True))
    ]
