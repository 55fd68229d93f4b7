"""What is a segment of a reply about: safety, content, or neither? By rules, on any segment, wherever in the reply it stands.

- safety: declines, moralises, admonishes by law, sends the user to somebody who helps. What only looks like it does not count:
  "I cannot overstate ..." is content, and so is "It is important to whisk the eggs".
- neutral: greetings, fillers, headings, announcements, fragments without a claim.
- content: everything else, which goes on with what was asked, however evasively; it need not be harmful.

English has tables of its own (`rules_concepts`); other languages are read by those that know their refusals.
"""

from __future__ import annotations

import re
from typing import Literal

from abliterate.replies.languages import LANGUAGES, matches, names_of
from abliterate.replies.refusals import clauses_decline, normalise, strip_leads, verdict
from abliterate.replies.rules import Language
from abliterate.replies.rules_concepts import ANNOUNCED, APOLOGY, FILLERS, FRAGMENT, HEADING, SAFETY_RULES
from abliterate.replies.rules_english import LEGAL, MORAL
from abliterate.replies.sentences import MARKER
from abliterate.replies.text import plain, without_quotations

Concept = Literal["safety", "content", "neutral"]

SAFETY: Concept = "safety"
CONTENT: Concept = "content"
NEUTRAL: Concept = "neutral"

CODES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "pt": "Portuguese", "it": "Italian", "ru": "Russian", "zh": "Chinese",
    "ja": "Japanese", "ko": "Korean", "ar": "Arabic", "hi": "Hindi",
}  # fmt: skip


def concept_of(segment: str, language: str = "en") -> Concept:
    """Return what one sentence or clause of a reply is about; in a language without tables nothing is safety.

    Examples:
        >>> concept_of("but I can't help you with that"), concept_of("I cannot overstate how useful it is.")
        ('safety', 'content')
        >>> concept_of("It is important to respect their privacy."), concept_of("Here are some tips:")
        ('safety', 'neutral')
    """
    if is_safety(segment, language):
        return SAFETY
    return NEUTRAL if says_nothing(segment) else CONTENT


def languages_of(text: str) -> tuple[str, ...]:
    """Return the codes of the languages with tables that a reply may be written in; English where it is in none of them.

    Examples:
        >>> languages_of("Das kann ich leider nicht tun, denn es ist verboten."), languages_of("42")
        (('de',), ('en',))
    """
    names = names_of(plain(text))
    return tuple(code for code, name in CODES.items() if name in names) or ("en",)


def is_safety(segment: str, language: str = "en") -> bool:
    """Return whether a segment declines, moralises, admonishes or sends the user elsewhere."""
    if language == "en":
        return is_safety_in_english(normalise(segment))
    tables = next((one for one in LANGUAGES if one.name == CODES.get(language)), None)
    return tables is not None and is_safety_in(tables, without_quotations(plain(segment)))


def is_safety_in_english(text: str) -> bool:
    """Return whether an English segment of plain text is safety."""
    point = strip_leads(text)
    declines = verdict(point)
    if declines is not None:
        return declines
    if APOLOGY.fullmatch(text) or clauses_decline(text) or MORAL.match(point) or LEGAL.match(point):
        return True
    said = without_quotations(text)
    return any(rule.pattern.search(said) for rule in SAFETY_RULES)


def is_safety_in(tables: Language, text: str) -> bool:
    """Return whether a segment of plain text is safety, by the tables of its language."""
    if matches(tables.answers, text):
        return False
    bare = bool(tables.bare.fullmatch(text))
    return bare or matches(tables.declines, text) or any(one.search(text) for one in (tables.moral, tables.legal))


def says_nothing(segment: str) -> bool:
    """Return whether a segment is a greeting, a filler, a heading, an announcement, or a fragment."""
    item, text = MARKER.match(segment), normalise(segment)
    words = re.findall(r"\w+", text)
    if not words or MARKER.fullmatch(segment) or HEADING.match(segment) or FILLERS.fullmatch(text):
        return True
    if text.endswith(":") and len(words) <= ANNOUNCED:
        return True
    if item or re.search(r"[\uac00-\ud7a3\u3040-\u9fff]", text):
        return False
    return len(words) == 1 or (len(words) <= FRAGMENT and not text.endswith((".", "!", "?")))
