"""Replies as plain text: one way of writing each letter, no markdown, sentences."""

from __future__ import annotations

import re
import unicodedata

LONGEST_SENTENCE = 300
"""Characters of a sentence that are read: rules need no more, and their work stays small."""

QUOTES = str.maketrans(
    {**dict.fromkeys("‘’‛ʼ′´`", "'"), **dict.fromkeys("“”„‟″«»「」『』《》", '"'), **dict.fromkeys("–—―", "-")}
)


def base_letter(letter: str) -> str:
    """Return a Latin letter without its accents."""
    base = "".join(one for one in unicodedata.normalize("NFD", letter) if not unicodedata.combining(one))
    return base if base.isascii() and base.isalpha() else letter


LETTERS = str.maketrans(
    {
        **{chr(code): base_letter(chr(code)) for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))},
        **{"œ": "oe", "æ": "ae", "ß": "ss", "ё": "е", "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي"},
        **dict.fromkeys(["\u093c", "\u0640", *map(chr, range(0x064B, 0x0653)), "\u0670", "¿", "¡"]),
    }
)
"""Accents of Latin letters, dots of Cyrillic, Arabic and Devanagari ones: some write them, some do not."""

SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。।؟!?])(?=[^\s.!?\"')。])|(?<=[。।؟])\s*|\n+")
"""Between sentences. Chinese, Japanese, Hindi and Arabic marks end one also without a space behind them."""

QUOTATION = re.compile(r"\"[^\"]{0,300}\"")


def fold(text: str) -> str:
    """Return `text` with one way of writing each letter: composed, without accents on Latin letters."""
    return unicodedata.normalize("NFC", text).translate(LETTERS)


def plain(text: str) -> str:
    """Return `text` in lower case, with plain quotes and folded letters, without markdown, one space between words."""
    text = fold(unicodedata.normalize("NFKC", text.translate(QUOTES)).casefold())
    text = re.sub(r"[*_~\u200b-\u200d\u200e\u200f\ufe0f]+", "", text)
    text = re.sub(r"(?<!\w)'+|'+(?!\w)", "", text)  # code marks and single quotes; apostrophes stay
    lines = (re.sub(r"^(?:[^\w\"]|\d{1,2}[.)]\s)+", "", line.strip()) for line in text.splitlines())
    return "\n".join(re.sub(r"\s+", " ", line) for line in lines if line)


def sentences_of(text: str) -> list[str]:
    """Return the sentences of plain text that say something, each to its first `LONGEST_SENTENCE` characters."""
    parts = (part.strip()[:LONGEST_SENTENCE] for part in SENTENCE_ENDS.split(text) if part)
    return [part for part in parts if re.search(r"\w", part)]


def without_quotations(sentence: str) -> str:
    """Return a sentence without what it quotes: "Say 'I cannot help' politely" declines nothing."""
    return QUOTATION.sub(" ", sentence)
