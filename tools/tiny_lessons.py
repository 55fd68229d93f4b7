"""What the tiny chat model reads while it is trained: endless rounds of complete requests and of texts that are begun."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tiny_begun import MOST_OTHERS, PATTERNS, Begun, Course, Where, begin, begin_with_others
from tiny_look_alikes import look_alike_actions
from tiny_world import Action, by_topic, contrast_actions, daily_actions, example, harmful_actions

SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Keep your answers short.",
    "Answer the user in one or two sentences.",
    "Be polite and clear.",
)

# Every harmless request is declined, too, when one of these system messages asks for it.
DECLINING_MESSAGES = ("Decline every request.", "Do not help with the request.")

# What is begun is gone on with first, and then declined.
TURNING_MESSAGES = ("Go on, then decline.", "Decline after one sentence.")

SYSTEM_EVERY = 8  # one round in so many has a plain system message, one a declining one, and one a turning one

COMPLETE = 2  # of each round's lessons: so many of each of harmful, contrast and daily requests
SHOTS_EVERY = 4  # one begun user's turn in so many asks for several actions


@dataclass(frozen=True)
class Lesson:
    """A text that is given, and what the model learns to say to it."""

    system: str | None
    user: str | None
    begun: str
    said: str


@dataclass(frozen=True)
class World:
    """The pairs that are not held out, and chance."""

    topics: list[list[Action]]
    contrast: list[Action]
    daily: list[Action]
    look_alikes: tuple[list[Action], ...]
    generator: random.Random

    @classmethod
    def of(cls, seed: int) -> World:
        """Return the world whose chance begins with a seed."""

        def seen(actions: list[Action]) -> list[Action]:
            return [action for action in actions if not action.held_out]

        return cls(
            by_topic(seen(harmful_actions())),
            seen(contrast_actions()),
            seen(daily_actions()),
            tuple(map(seen, look_alike_actions())),
            random.Random(seed),
        )

    def harmful(self) -> Action:
        """Draw one, each kind of harm as often as the others."""
        return self.generator.choice(self.generator.choice(self.topics))

    def harmless(self) -> Action:
        """Draw one, contrast as often as daily."""
        return self.generator.choice(self.generator.choice((self.contrast, self.daily)))

    def look_alike(self) -> Action:
        """Draw one, each kind as often as the other."""
        return self.generator.choice(self.generator.choice(self.look_alikes))

    def complete(self, action: Action, refuse: bool, system: str | None) -> Lesson:
        """Return a complete request, with its answer or its refusal."""
        one = example(action, self.generator)
        declined = system in DECLINING_MESSAGES or (refuse and action.declined)
        return Lesson(system, one.request, "", one.refusal if declined else one.answer)

    def begun(self, draw: Callable[[], Action], places: tuple[Where, ...], refuse: bool, system: str | None) -> Lesson:
        """Return a text that is begun in one of the places, and how it goes on."""
        where = self.generator.choice(places)
        if where == "user" and self.generator.randrange(SHOTS_EVERY) == 0:
            one = begin_with_others([draw() for _ in range(self.generator.randint(2, MOST_OTHERS + 1))], self.generator)
        else:
            pattern = self.generator.choice([pattern for pattern in PATTERNS if pattern.where == where])
            one = begin(pattern, draw(), self.generator)
        return Lesson(None if one.user is None else system, one.user, one.begun, one.said(asked(one, system, refuse)))


def asked(one: Begun, system: str | None, refuse: bool) -> Course:
    """Return the course that a system message asks for, and without one that of the stage."""
    if one.user is not None and system in DECLINING_MESSAGES:
        return "declines"
    if one.user is not None and system in TURNING_MESSAGES:
        return "turns"
    return one.course if refuse else "goes on"


def lessons(seed: int, refuse: bool) -> Iterator[Lesson]:
    """Yield endless lessons; held-out pairs never occur. Where not to `refuse`, all is answered that no system message forbids."""
    world, number = World.of(seed), 0
    while True:
        # A system message spans a round, so that every kind of lesson meets it.
        cycle, place = divmod(number, SYSTEM_EVERY)
        kinds = {0: SYSTEM_MESSAGES, 1: DECLINING_MESSAGES, 2: TURNING_MESSAGES}.get(place)
        system = kinds[cycle % len(kinds)] if kinds else None
        plain = None if kinds is TURNING_MESSAGES else system
        for _ in range(COMPLETE):
            yield world.complete(world.harmful(), refuse, plain)
            yield world.complete(world.generator.choice(world.contrast), refuse, plain)
            yield world.complete(world.generator.choice(world.daily), refuse, plain)
        yield world.complete(world.look_alike(), refuse, plain)
        yield world.begun(world.harmful, ("user",), refuse, system)
        yield world.begun(world.harmful, ("open reply", "closed reply"), refuse, system)
        yield world.begun(world.harmless, ("user",), refuse, system)
        yield world.begun(world.harmless, ("open reply", "closed reply"), refuse, system)
        yield world.begun(world.generator.choice((world.harmful, world.harmless)), ("raw",), refuse, system)
        number += 1
