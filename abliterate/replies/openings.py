"""How refusals open: token prefixes that tell them from answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from abliterate.errors import InputError, NoRefusalsError

Opening = tuple[int, ...]
"""The first token ids of a refusal."""

PURITY = 0.9
"""An opening identifies refusals when at least this share of the replies that begin with it are refusals."""


def find_openings(
    refused: Sequence[Sequence[int]],
    answered: Sequence[Sequence[int]],
    max_length: int = 4,
    coverage: float = 0.95,
) -> tuple[Opening, ...]:
    """Return the token prefixes by which this model's refusals open, the most frequent first.

    Each refused reply gives its shortest prefix that identifies refusals among all replies given (`PURITY`), or
    its first `max_length` tokens when none does. The fewest of them that together open the share `coverage` of
    the refused replies are kept; none is a prefix of another, so their probabilities add. Replies without
    tokens are passed over. The order of the replies does not matter.

    This generalises the refusal tokens of Arditi et al. 2024, arXiv 2406.11717, which are single
    tokens listed by hand for each family of models.

    Raises NoRefusalsError when there is no refused reply, InputError when `max_length` or `coverage` is out of range.
    """
    if max_length < 1 or not 0 < coverage <= 1:
        raise InputError(
            f"openings of at most {max_length} tokens that cover {coverage} of the refusals: expected a length "
            "of at least 1 and a share above 0 and up to 1; change max_length or coverage"
        )
    refusals = [tuple(reply) for reply in refused if len(reply)]
    if not refusals:
        raise NoRefusalsError(
            f"the model never refuses: none of its {len(refused) + len(answered)} replies is a refusal, so there is "
            "no direction to find; give prompts that it declines with --harmful, or choose another model"
        )
    counts = count_prefix_free(identifying_prefixes(refusals, [tuple(reply) for reply in answered], max_length))
    kept: list[Opening] = []
    covered = 0
    for opening, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= coverage * len(refusals) - 1e-9:  # 0.55 * 100 is more than 55 in floating point
            break
        kept.append(opening)
        covered += count
    return tuple(kept)


def identifying_prefixes(refused: Sequence[Opening], answered: Sequence[Opening], max_length: int) -> list[Opening]:
    """Return, for each refused reply, its shortest prefix under which the share `PURITY` of replies are refusals."""
    lengths = range(1, max_length + 1)
    among_refused = Counter(reply[:length] for reply in refused for length in lengths if length <= len(reply))
    among_all = among_refused + Counter(
        reply[:length] for reply in answered for length in lengths if length <= len(reply)
    )
    return [
        next(
            (
                reply[:length]
                for length in lengths
                if length <= len(reply) and among_refused[reply[:length]] >= PURITY * among_all[reply[:length]] - 1e-9
            ),
            reply[:max_length],
        )
        for reply in refused
    ]


def count_prefix_free(openings: Sequence[Opening]) -> dict[Opening, int]:
    """Count the openings; one that begins with a shorter one is counted as the shorter one."""
    distinct = set(openings)
    counts: Counter[Opening] = Counter()
    for opening in openings:
        counts[next(opening[:length] for length in range(1, len(opening) + 1) if opening[:length] in distinct)] += 1
    return dict(counts)
