"""The one protocol through which long steps report how far they are.

The library prints nothing. A caller passes an object with this one method, or nothing at all;
the command line passes one that draws bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Advance = Callable[[int], None]
"""Tells that so many more units are done."""


@runtime_checkable
class Progress(Protocol):
    """Whoever wants to show the progress of a run implements this."""

    def step(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Open a step of `total` units (`"prompts"`, `"B"` for bytes, ...); leaving the context ends it."""
        ...


class Silent:
    """The progress of a caller who wants none."""

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        """Do nothing, in the shape of `Progress.step`."""
        yield lambda units: None


SILENT = Silent()
