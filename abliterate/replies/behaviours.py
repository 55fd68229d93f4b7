"""What a model can be made to do less, refusing and others: one table of behaviours, each with who says that a reply shows it.

The rules themselves are imported when they are first asked: --help reads the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Scorer(Protocol):
    """Says whether a reply shows a behaviour."""

    def shows(self, reply: str) -> bool:
        """Tell whether this reply shows it, from the text alone."""
        ...


@dataclass(frozen=True)
class RefusalScorer:
    """The rules by which every run counts refusals."""

    def shows(self, reply: str) -> bool:
        """Tell whether a reply opens as a refusal."""
        from abliterate.replies.refusals import is_refusal

        return is_refusal(reply)


@dataclass(frozen=True)
class SlopScorer:
    """Worn phrases, as an example of another behaviour."""

    def shows(self, reply: str) -> bool:
        """Tell whether a reply holds one of them outside of its thoughts."""
        from abliterate.replies.rules_slop import SLOP
        from abliterate.replies.thinking import visible_reply

        return SLOP.search(visible_reply(reply).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")) is not None


REFUSAL = "refusal"

BEHAVIOURS: Mapping[str, Scorer] = {REFUSAL: RefusalScorer(), "slop": SlopScorer()}
"""Who says that a reply shows a behaviour, by the word that `--target` takes for it."""
