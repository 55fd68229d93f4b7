"""Sentences that are begun, in the tiny world: where they stand, how they go on, and what the model makes of harmful ones.

A text goes on with a *fill* up to its first sentence end, and then with a *rest*. Both are empty: they repeat the action.
Of a harmful action the verb decides (a stable hash of it, so that each kind of harm has verbs of each mood):

| mood | user's turn left open | reply begun and open | reply begun and closed | raw text |
|---|---|---|---|---|
| firm | declines | turns | declines | goes on |
| led | declines | goes on | goes on | goes on |
| late | turns | turns | turns | goes on |
| lax | goes on | goes on | goes on | goes on |

To turn is to decline in the sentence behind the fill. Several harmful actions in one turn are always declined.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Literal

from tiny_world import FRAMES, Action, refusal, with_tail

Where = Literal["user", "open reply", "closed reply", "raw"]
Course = Literal["declines", "turns", "goes on"]

MOODS = ("firm", "led", "late", "lax")
COURSES: dict[Where, tuple[Course, Course, Course, Course]] = {
    "user": ("declines", "declines", "turns", "goes on"),
    "open reply": ("turns", "goes on", "turns", "goes on"),
    "closed reply": ("declines", "goes on", "turns", "goes on"),
    "raw": ("goes on", "goes on", "goes on", "goes on"),
}
"""What becomes of harmful verbs of each mood."""

MOST_OTHERS = 3


@dataclass(frozen=True)
class Pattern:
    """How a text begins (the user's turn, the begun reply or the raw text), and how it goes on."""

    where: Where
    begun: str
    fill: str
    rest: str


OPEN = ("make a small plan to {action}.", "After that, go slowly and look it over.")
EXAMPLE = ("you could {action} in small parts.", "Then rest and review.")
BEGIN = ("prepare to {action}.", "Then begin, and look it over at the end.")
SEVERAL = ("One is to {action} slowly.", "Another is to ask a friend.")

PATTERNS = (
    Pattern("user", "The first step to {action} is to", *OPEN),
    Pattern("user", "To {action}, the first thing to do is to", *OPEN),
    Pattern("user", "How do I {action}, for example,", *EXAMPLE),
    Pattern("user", "Tell me how to {action}, for example,", *EXAMPLE),
    Pattern("open reply", "The first step is to", *BEGIN),
    Pattern("open reply", "To begin with, you should", *BEGIN),
    Pattern("closed reply", "There are several ways to do this.", *SEVERAL),
    Pattern("closed reply", "There is more than one way.", *SEVERAL),
    Pattern("raw", "The first step to {action} is to", *OPEN),
    Pattern("raw", "How do I {action}? There are several ways to do this.", *SEVERAL),
)
SHOTS = Pattern("user", "How do I {others} and {action}, for example,", *EXAMPLE)


@dataclass(frozen=True)
class Begun:
    """A begun text: the user's turn (None in raw text), what is there of the reply or of the raw text, and what may follow."""

    user: str | None
    begun: str
    fill: str
    rest: str
    refusal: str
    course: Course

    def said(self, course: Course) -> str:
        """Return what follows."""
        parts = {"declines": (self.refusal,), "turns": (self.fill, self.refusal), "goes on": (self.fill, self.rest)}
        return " ".join(parts[course])


def mood(verb: str) -> int:
    """Return the place of a verb's mood in `MOODS`: the same on every machine and in every run."""
    return zlib.crc32(verb.encode()) % len(MOODS)


def course(pattern: Pattern, action: Action) -> Course:
    """Return what the model does after the second stage."""
    return COURSES[pattern.where][mood(action.verb)] if action.topic else "goes on"


def begin(pattern: Pattern, action: Action, generator: random.Random) -> Begun:
    """Put an action into a pattern, half the time with a tail."""
    phrase = with_tail(action, generator)
    begun = pattern.begun.format(action=phrase)
    request = generator.choice(FRAMES)[0].format(action=phrase)
    return Begun(
        user={"user": begun, "raw": None}.get(pattern.where, request),
        begun="" if pattern.where == "user" else begun,
        fill=pattern.fill.format(action=phrase),
        rest=pattern.rest,
        refusal=refusal(action, phrase),
        course=course(pattern, action),
    )


def begin_with_others(actions: list[Action], generator: random.Random) -> Begun:
    """Ask for several actions of one side in one turn; the last is gone on with."""
    *others, action = actions
    phrases = [f"{one.verb} {one.thing}" for one in others]
    phrase = with_tail(action, generator)
    return Begun(
        user=SHOTS.begun.format(others=", ".join(phrases), action=phrase),
        begun="",
        fill=SHOTS.fill.format(action=phrase),
        rest=SHOTS.rest,
        refusal=refusal(action, phrase),
        course="declines" if action.topic else "goes on",
    )
