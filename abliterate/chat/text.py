"""Foreign text is text that nobody has read: what would move a terminal's cursor, or write to it unseen, becomes visible."""

from __future__ import annotations

import re

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 but tab and line feed, DEL, C1 (where 0x9b is another way to write ESC [), and what reorders the text around it;
halves of surrogate pairs, as in names that are not UTF-8, which cannot be written at all."""

PICTURES = 0x2400
"""Where Unicode has pictures of the C0 controls, in their order."""


def harmless(text: str) -> str:
    """Return `text` with a visible mark in the place of each control character; ESC becomes ␛, others alike or �."""
    return CONTROL.sub(lambda found: mark(found.group()), text.replace("\r\n", "\n"))


def mark(control: str) -> str:
    """Return the picture of a control character."""
    if control == "\x7f":
        return "\u2421"
    return chr(PICTURES + ord(control)) if control < " " else "\ufffd"


def escaped(text: str) -> str:
    """Return JSON text with the controls that JSON lets through as escapes: it means the same."""
    return CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
