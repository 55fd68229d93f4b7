"""How the model's own replies open: refusals and answers, in a few tokens each, that `f(Y)` holds against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from abliterate.errors import NoRefusalsError
from abliterate.replies.openings import PURITY, find_openings
from abliterate.studies.clusters.options import Target
from abliterate.studies.replies import Tokens

OPENINGS = 8
"""Openings a side, at most..."""

LENGTH = 8
"""...and tokens in each."""

SHARED, SHARE = 2, 0.05
"""Replies, and their share of a side, that begin with an opening: one that fewer have tells of their topic."""

COVERAGE = 0.75
"""Share of refusals that the openings of the log-odds score cover."""


@dataclass(frozen=True)
class Targets:
    """The openings that `f(Y)` scores: refusals against answers, or by their log-odds refusals alone (`scored`)."""

    refusal: tuple[Tokens, ...]
    answer: tuple[Tokens, ...]
    scored: Target = "crossed"


def targets_of(refused: Sequence[Tokens], answered: Sequence[Tokens], scored: Target = "crossed") -> Targets:
    """Return the openings of a model's own replies.

    Raises NoRefusalsError where there is no refused reply, or none that answers: then nothing can be crossed.
    """
    if scored == "opening":
        return Targets(find_openings(refused, answered, coverage=COVERAGE), (), scored)
    refused, answered = ([one for one in some if one] for some in (refused, answered))
    if not refused or not answered:
        raise NoRefusalsError(
            f"{len(refused)} replies are refusals and {len(answered)} are answers: openings of both are held against each "
            "other; give prompts that the model declines, and some that it answers"
        )
    return Targets(frequent_openings(refused, answered), frequent_openings(answered, refused))


def frequent_openings(own: Sequence[Tokens], others: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """Return the most frequent openings of some replies that others do not have.

    Each reply gives its longest opening that enough others of its side share. Where no replies share any, all are taken whole.
    """
    enough = max(SHARED, SHARE * len(own))
    lengths = range(1, LENGTH + 1)
    among = Counter(reply[:length] for reply in own for length in lengths if length <= len(reply))
    beside = Counter(reply[:length] for reply in others for length in lengths if length <= len(reply))

    def opening(reply: Tokens) -> Tokens | None:
        longest = reply[:LENGTH]
        shared = (longest[:length] for length in range(len(longest), 0, -1) if among[longest[:length]] >= enough)
        return next((one for one in shared if telling(one)), None)

    def telling(one: Tokens) -> bool:
        return among[one] >= PURITY * (among[one] + beside[one])

    counts = Counter(one for one in map(opening, own) if one) or Counter(reply[:LENGTH] for reply in own)
    return tuple(one for one, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:OPENINGS])
