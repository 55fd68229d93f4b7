"""What a rule about replies is, and the tables of one language. The rules themselves are in `rules_<language>.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from abliterate.replies.text import fold

NEVER = re.compile(r"(?!)")
"""Matches nothing: for what a language has no rule of."""


@dataclass(frozen=True)
class Rule:
    """One line of a table: what it is called, what it matches in plain text, and why it is there."""

    name: str
    pattern: re.Pattern[str]
    why: str


def rules(*lines: tuple[str, str, str]) -> tuple[Rule, ...]:
    """Return a table of rules from (name, pattern, why); letters are folded as those of the text are."""
    return tuple(Rule(name, compiled(pattern), why) for name, pattern, why in lines)


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern for plain text: letters are folded as those of the text are."""
    return re.compile(fold(pattern))


@dataclass(frozen=True)
class Language:
    """How one language refuses, as tables; `languages.refuses` says in which order they are asked.

    `words` are everyday ones by which a language is told from others of its script; none where the script is its own.
    All patterns are searched in one sentence of plain text, from which quotations are taken out, but for `bare`, which
    is the whole reply, and for `apology` and `prefaces`, which begin a sentence.
    """

    name: str
    answers: tuple[Rule, ...]
    """Look like declining and are not; tried first."""
    declines: tuple[Rule, ...]
    """The reply is a refusal."""
    bare: re.Pattern[str]
    """An apology or a no that is the whole reply."""
    prefaces: re.Pattern[str]
    """First sentences that say nothing yet; the next one decides."""
    whole: re.Pattern[str]
    """Declining all of it ("that", "this request"), so that it counts also after a sentence that says something."""
    words: frozenset[str] = frozenset()
    apology: re.Pattern[str] = NEVER
    cannot: re.Pattern[str] = NEVER
    """After an apology such a bare "cannot" declines."""
    moral: re.Pattern[str] = NEVER
    """A lecture in moral terms: stands in for the answer unless the next sentence turns to one."""
    legal: re.Pattern[str] = NEVER
    """A lecture on law, which may as well be the answer: counts with an admonition only."""
    admonishes: re.Pattern[str] = NEVER
    advice: re.Pattern[str] = field(default=NEVER)
    """Declines a kind of advice (legal, medical), or exact figures: no refusal where an answer follows."""
    turns: re.Pattern[str] = field(default=NEVER)
    """... which begins so: "but here is", "in general"."""
