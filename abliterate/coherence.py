"""Does a reply say anything? A rule of text alone: empty replies, and the same again and again.

A strong edit can leave a model that declines nothing because it says nothing.
"""

from __future__ import annotations

import re

LONG = 12
"""Words from which on a reply is long enough to go round in circles."""

DISTINCT = 0.34
"""Share of different words below which a long reply repeats itself; ordinary text of 32 tokens is far above."""

TAIL = 4
"""So many times the same phrase at the end of a reply is a loop, however it began."""


def is_incoherent(reply: str) -> bool:
    """Return whether `reply` is empty, without a single letter or digit, or a loop."""
    words = re.findall(r"\w+", reply.casefold())
    if not words:
        return True
    if len(words) >= LONG and len(set(words)) < DISTINCT * len(words):
        return True
    return any(ends_in_a_loop(words, length) for length in range(1, len(words) // TAIL + 1))


def ends_in_a_loop(words: list[str], length: int) -> bool:
    """Return whether the last `length` words stand there `TAIL` times in a row; at least three words are one tail."""
    times = max(TAIL, -(-LONG // length) // 2)
    tail = words[-length:]
    return len(words) >= times * length and words[-times * length :] == tail * times
