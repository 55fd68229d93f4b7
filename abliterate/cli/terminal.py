"""What may be written to the terminal: the words of models, folders and servers cannot move its cursor or give it orders."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from abliterate.chat.text import escaped, harmless

QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether nothing but errors and JSON shall be said."""


class Terminal(Console):
    """A rich console of which every text is harmless: the only escape sequences that it writes are rich's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is shown, with a visible mark in the place of each control character."""
        for segment in super().render(renderable, options):
            # Control segments move the cursor for progress bars; rich makes them of numbers, never of a text.
            yield segment if segment.control is not None else Segment(harmless(segment.text), segment.style)


def say(text: str, *, end: str = "\n", aside: bool = False) -> None:
    """Print a text, on stdout or `aside` on stderr, without what a terminal would obey."""
    print(harmless(text), end=end, file=sys.stderr if aside else sys.stdout)


def note(text: str) -> None:
    """Print what is no error and no result on stderr, unless --quiet."""
    if not QUIET.get():
        say(text, aside=True)


def say_json(data: dict[str, Any]) -> None:
    """Print a result as one line of JSON, at once; controls are escapes in it, so that it means the same."""
    print(escaped(json.dumps(data, ensure_ascii=False)), flush=True)


class HarmlessRecord(logging.LogRecord):
    """What a library logs: its message and the error that it tells of, which may quote anything, without controls."""

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        if self.exc_info and self.exc_info[1] is not None:
            # As a handler would write it, which takes what is there already.
            self.exc_text = harmless("".join(traceback.format_exception(self.exc_info[1])).rstrip())

    def getMessage(self) -> str:
        """Return the message."""
        return harmless(super().getMessage())


@contextmanager
def harmless_libraries() -> Iterator[None]:
    """Inside the context what libraries log or warn of, and what a thread of theirs dies of, reaches the terminal harmlessly."""

    def warned(
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        if QUIET.get():
            return
        text = warnings.formatwarning(message, category, filename, lineno, line)
        (file or sys.stderr).write(harmless(text))

    def died(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
            say("".join(traceback.format_exception(arguments.exc_value)), end="", aside=True)

    record, show, hook = logging.getLogRecordFactory(), warnings.showwarning, threading.excepthook
    logging.setLogRecordFactory(HarmlessRecord)
    warnings.showwarning, threading.excepthook = warned, died
    try:
        yield
    finally:
        logging.setLogRecordFactory(record)
        warnings.showwarning, threading.excepthook = show, hook
