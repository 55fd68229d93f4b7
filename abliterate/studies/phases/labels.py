"""Replies cut into segments, and each segment labelled: tokens that the model wrote, and nothing before them.

A segment is a clause of a sentence, or an item of a list. A reply that goes round in circles is read as far as its first
round; a reply that falls apart altogether is a row of its own in every table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from abliterate.prompts.texts import TokenText
from abliterate.replies.coherence import is_incoherent
from abliterate.replies.concepts import Concept, concept_of, languages_of
from abliterate.replies.sentences import MARKER, clauses, sentences
from abliterate.studies.phases.method import (
    SETTLE,
    Outcome,
    Phase,
    Segment,
    Transition,
    onset_of,
    outcome_of,
    phases_of,
    refuses,
    transitions_of,
)
from abliterate.studies.phases.onset import Onset
from abliterate.studies.replies import Tokens

Label = Callable[[str, str], Concept]
"""What a segment, in a language, is about."""

ROUNDS = 3
"""So many times in a row the same segments are a circle."""


@dataclass(frozen=True)
class Piece:
    """Reply tokens `begin` to `end` (the latter outside), and what they say."""

    begin: int
    end: int
    text: str


@dataclass(frozen=True)
class CutReply:
    """A reply in segments. `ends` are the token indices behind its sentences that came to their end.

    `circle` is the token at which a reply begins to repeat itself, its length where it does not: what comes later is not read.
    """

    tokens: Tokens
    text: str
    pieces: tuple[Piece, ...]
    ends: tuple[int, ...]
    circle: int

    @property
    def fill_end(self) -> int:
        """Return the token behind the first sentence; behind all where none came to its end."""
        return min(self.ends[0], self.circle) if self.ends else self.circle

    @cached_property
    def incoherent(self) -> bool:
        """Return whether the reply says nothing: it is empty, or a loop."""
        return not self.pieces or is_incoherent(self.text)


def cut(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase, language: str = "en") -> CutReply:
    """Return a reply cut into segments, which together hold each of its tokens up to the circle once.

    A token that holds the end of one segment and the beginning of the next belongs to the first.
    """
    said = TokenText(tokenizer, tuple(tokens), skip=True)
    ends = tuple(said.token_of(one.end) + 1 for one in sentences(said.text, language) if one.finished)
    pieces: list[Piece] = []
    for clause in clauses(said.text, language):
        begin = pieces[-1].end if pieces else 0
        end = said.token_of(clause.end) + 1
        if end > begin:
            pieces.append(Piece(begin, end, clause.text))
    whole = len(said.tokens)
    if pieces:  # space behind the last word belongs to it
        pieces[-1] = Piece(pieces[-1].begin, whole, pieces[-1].text)
    kept = pieces[: first_round([one.text for one in pieces])]
    circle = kept[-1].end if kept else whole
    return CutReply(said.tokens, said.text, tuple(kept), ends, circle)


def first_round(texts: Sequence[str]) -> int:
    """Return how many segments there are before a reply repeats itself to its end; the numbers of list items do not count.

    The last segment may have been cut off.

    Examples:
        >>> first_round(["So,", "one.", "Two.", "one.", "Two.", "one.", "Two.", "o"])
        3
    """
    plain = [" ".join(re.findall(r"\w+", MARKER.sub("", text).casefold())) for text in texts]
    for period in range(1, len(plain) // ROUNDS + 1):
        start = len(plain)
        while start > period and repeats(plain, start - 1, period):
            start -= 1
        if len(plain) - start + period >= ROUNDS * period and start < len(plain):
            return start
    return len(plain)


def repeats(texts: Sequence[str], place: int, period: int) -> bool:
    """Return whether the segment at a place says what the one a period before it said; the last may be cut off."""
    earlier = texts[place - period]
    return earlier == texts[place] or (place == len(texts) - 1 and earlier.startswith(texts[place]))


@dataclass(frozen=True)
class LabelledReply:
    """A reply cut into segments, what each is about, and what follows from it."""

    cut: CutReply
    segments: tuple[Segment, ...]
    settle: int = SETTLE

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of the reply."""
        return phases_of(self.segments)

    @cached_property
    def transitions(self) -> tuple[Transition, ...]:
        """Return where the reply turns, interruptions among it."""
        return transitions_of(self.phases, self.settle)

    @property
    def onset(self) -> Onset:
        """Return when safety begins; a reply in which it does not is followed to its end, or to its circle."""
        token = onset_of(self.phases)
        return Onset(self.cut.circle, False) if token is None else Onset(token, True)

    @property
    def refuses(self) -> bool:
        """Return whether safety begins within the first two sentences."""
        return refuses(self.phases, self.cut.ends)

    @property
    def outcome(self) -> Outcome | None:
        """Return what fills the sentence up and whether the reply turns later; None where nothing was said."""
        return outcome_of(self.phases, self.cut.fill_end) if self.segments else None


def labelled(reply: CutReply, label: Label = concept_of, language: str = "en", settle: int = SETTLE) -> LabelledReply:
    """Return a reply with its segments labelled, by rules unless another labeller is given."""
    segments = tuple(Segment(label(one.text, language), one.begin, one.end) for one in reply.pieces)
    return LabelledReply(reply, segments, settle)


def onset_of_reply(tokens: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Onset:
    """Return when safety begins in a reply, by the rules of its language; in one that falls apart it does not.

    Where it may be written in several languages, the first token at which any of them finds safety counts.
    """
    text = TokenText(tokenizer, tuple(tokens), skip=True).text
    read = [labelled(cut(tokens, tokenizer, language), language=language) for language in languages_of(text)]
    if read[0].cut.incoherent:
        return Onset(read[0].cut.circle, False)
    entered = [one.onset for one in read if one.onset.entered]
    return min(entered, key=lambda onset: onset.token, default=read[0].onset)


def relabelled(
    reply: CutReply, concepts: Sequence[str], scores: Sequence[float], settle: int = SETTLE
) -> LabelledReply:
    """Return a reply whose segments have these labels and scores. Raises ValueError for other numbers of them."""
    segments = tuple(
        Segment(concept, piece.begin, piece.end, score)
        for piece, concept, score in zip(reply.pieces, concepts, scores, strict=True)
    )
    return LabelledReply(reply, segments, settle)
