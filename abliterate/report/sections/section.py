"""What a section of the page is: its heading, its words for the template, its numbers for the plots, its markup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from abliterate.report.load import Gathered

SIDES = ("harmful", "harmless")
MODELS = ("original", "edited")


def no_numbers(records: Gathered) -> dict[str, Any]:
    """Return what a section without plots gives the script: nothing."""
    return {}


@dataclass(frozen=True)
class Section:
    """A section of the page.

    `name` is where links lead, `title` what the contents call it. `words` returns what the markup, a template, is filled
    with, or None where the records have nothing to show. `numbers` returns what `plots.js` draws from, by name; a name
    has null where nothing is known.
    """

    name: str
    title: str
    markup: str
    words: Callable[[Gathered], dict[str, Any] | None]
    numbers: Callable[[Gathered], dict[str, Any]] = no_numbers
