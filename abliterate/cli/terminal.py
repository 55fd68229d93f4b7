"""What may be written to the terminal: the words of models, folders and servers cannot move its cursor or give it orders."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from abliterate.chat.text import escaped, harmless


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


def say_json(data: dict[str, Any]) -> None:
    """Print a result as one line of JSON, at once; controls are escapes in it, so that it means the same."""
    print(escaped(json.dumps(data, ensure_ascii=False)), flush=True)
