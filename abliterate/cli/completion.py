"""What the shell offers behind <TAB>: verbs, flags, the words that a flag takes. Imports nothing that takes time."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import StringIO
from typing import Any

from typer.core import TyperCommand, TyperGroup

from abliterate.cli.failures import one_line
from abliterate.errors import InputError
from abliterate.records.option import Declaration

DEFAULT_VERB = "run"

Completer = Callable[[str], list[str]]

ALIKE = 0.75
"""How like a verb a word is that was meant for it (difflib's ratio): one letter more, less, other or out of place."""

BREAKS = ":="
"""What bash takes for the end of a word, though it is inside of one."""


def completer(declaration: Declaration) -> Completer | None:
    """Return what completes the value of an option, None where no words are known: the shell may offer files."""
    known = declaration.words
    if not known:
        return None
    if not declaration.listed:
        return lambda incomplete: [word for word in known if word.startswith(incomplete)]

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [f"{before}{comma}{word}" for word in known if word.startswith(last) and word not in given]

    return complete


MISUSED: ContextVar[str | None] = ContextVar("misused", default=None)
"""What typer says of the words that were typed, where it has ended the command for them."""


@contextmanager
def told_harmlessly() -> Iterator[None]:
    """Inside the context an error about what was typed, which it quotes, is one short line without controls."""
    try:
        yield
    except Exception as error:
        # typer brings a copy of click of its own, older ones the package: both keep what they say here.
        if isinstance(message := getattr(error, "message", None), str):
            error.message = one_line(message)  # type: ignore[attr-defined]
        if callable(whole := getattr(error, "format_message", None)):
            MISUSED.set(one_line(whole()))
        raise


class Verb(TyperCommand):
    """A verb that offers its flags where nothing else can follow, before a dash is typed."""

    def make_context(self, *values: Any, **named: Any) -> Any:
        """Read what was typed behind the verb."""
        with told_harmlessly():
            return super().make_context(*values, **named)

    def get_help_option(self, ctx: Any) -> Any:
        """Return --help, in a panel as all other options."""
        found = super().get_help_option(ctx)
        if found is not None:
            found.rich_help_panel = "output"  # type: ignore[attr-defined]
        return found

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return what may follow."""
        return super().shell_complete(ctx, incomplete or "-")


class Family(TyperGroup):
    """Verbs under one name."""

    def make_context(self, *values: Any, **named: Any) -> Any:
        """Read what was typed behind the name."""
        with told_harmlessly():
            return super().make_context(*values, **named)


class Verbs(Family):
    """The verbs; a first word that is none of them is the model of a run, when it is run and when it is completed."""

    def invoke(self, ctx: Any) -> Any:
        """Run what was typed."""
        with told_harmlessly():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that the words ask for, and the words that are left for it.

        Raises InputError where the first is nearly a verb, and nothing on this machine has its name.
        """
        if args and args[0] not in self.commands:
            if not ctx.resilient_parsing:
                check_verb(args[0], self.commands)
            args = [DEFAULT_VERB, *args]
        return super().resolve_command(ctx, args)


def check_verb(word: str, verbs: Iterable[str]) -> None:
    """Raise InputError for a word that is nearly a verb: no name of org/name, nor of a folder or file here."""
    alike = [] if "/" in word else difflib.get_close_matches(word.lower(), verbs, 1, ALIKE)
    if alike and not os.path.lexists(word):
        raise InputError(
            f"{word}: no such verb; did you mean {alike[0]}? For a model of this name: abliterate run {word}"
        )


def completing_bash() -> bool:
    """Return whether bash asks what may follow."""
    return os.environ.get("_ABLITERATE_COMPLETE") == "complete_bash" and "COMP_WORDS" in os.environ


def complete_bash(call: Callable[[], None]) -> None:
    """Answer bash, which parts words at ":" and "=" and replaces what follows the last of these alone."""
    asked = os.environ["COMP_WORDS"].split()
    place = int(os.environ.get("COMP_CWORD") or 0)
    if place >= len(asked):
        asked.append("")
    joined, place = rejoined(asked, place)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(place)
    word = joined[place]
    behind = word.partition("=")[2] if word.startswith("-") else word  # typer completes the value of --flag=value
    kept = max(behind.rfind(mark) for mark in BREAKS) + 1
    answer = StringIO()
    try:
        with redirect_stdout(answer):
            call()
    finally:
        print("\n".join(line[kept:] for line in answer.getvalue().splitlines()))


def rejoined(asked: Sequence[str], place: int) -> tuple[list[str], int]:
    """Return the words as they were typed, and which of them the cursor is in."""
    whole: list[str] = []
    found = place
    glued = False
    for number, word in enumerate(asked):
        mark = bool(word) and not word.strip(BREAKS)
        # A flag's value may begin with ":" or "="; nothing is glued to the command itself.
        if len(whole) > 1 and (glued or mark) and not (glued and word.startswith("-")):
            whole[-1] += word
        else:
            whole.append(word)
        glued = mark
        if number == place:
            found = len(whole) - 1
    return whole[: found + 1], found
