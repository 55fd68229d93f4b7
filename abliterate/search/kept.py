"""Refusals that an edit must leave: what holds them during a search, and how many are left.

What holds them is the divergence along the first tokens of the model's own refusals, as of harmless prompts along its
answers. What judges them is the count of refusals that are left of the original's on the select split, which may fall as far as
the front is told (`Front.max_lost`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from abliterate.parallel.processes import Processes
from abliterate.search.examples import OriginalReply, Tokens
from abliterate.search.losses import EditLosses, States
from abliterate.search.variables import Variables

KEPT_WEIGHT = 1.0
"""Weight of their mean divergence beside that of harmless prompts."""

KEPT_TOKENS = 8
"""Tokens of the model's own refusals along which the divergence is followed."""


@dataclass(frozen=True)
class Kept:
    """How the original's refusals begin that shall stay, and the prompts of the select split, refused by it too, that judge."""

    refusals: Sequence[OriginalReply] = ()
    select: Sequence[Tokens] = ()


@dataclass(frozen=True)
class Keeping:
    """What holds the refusals of `kept` at each step; `original` are the states that predict each."""

    kept: Kept = field(default_factory=Kept)
    original: Sequence[States] = ()

    @classmethod
    def of(cls, kept: Kept, edit_losses: EditLosses) -> Keeping:
        """Return it with what the original predicts along its refusals."""
        return cls(kept, edit_losses.states(kept.refusals) if kept.refusals else ())

    def backward(self, edit_losses: EditLosses, draws: Iterator[list[int]], edit: Variables, group: Processes) -> None:
        """Add the gradients of the divergence along a few refusals; nothing where none shall stay."""
        if not self.kept.refusals:
            return
        drawn = next(draws)
        own = group.own(drawn)
        edit_losses.backward(
            [],
            [self.kept.refusals[place] for place in own],
            [self.original[place] for place in own],
            edit,
            (0.0, KEPT_WEIGHT / len(drawn)),
        )
