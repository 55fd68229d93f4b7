"""What a search is asked to do, declared once. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from abliterate.records.option import OFF, Declaration, Panel, one_of, option, whole_number
from abliterate.search.choice import PICKS, USUAL_MAX_KL, USUAL_MAX_LOST, Pick


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Whether an edit is searched for by gradient, and which one of those found is taken; `optimize` None is as `searches` has it."""

    PANEL: ClassVar[Panel] = "search"

    optimize: bool | None = option(
        None,
        Declaration(
            "Search by gradient: direction, strengths per layer and site; or take one direction at one strength, chosen by the "
            "published rule. \\[default: search, unless --layer, --strength, --form, --edit-form or --mode says which edit]",
            read=lambda text: text != OFF,
            kind=bool,
            off="--no-optimize",
        ),
    )
    pick: Pick = option(
        "refusals",
        Declaration(
            "Which of the edits found: the one with fewest refusals within --max-kl, or the knee of the front.",
            read=one_of(PICKS),
            words=PICKS,
        ),
    )
    edit_rank: int = option(
        1,
        Declaration(
            "Directions that the search turns together, each with its own strengths.",
            read=whole_number,
            kind=int,
            least=1,
        ),
    )
    target_refusals: float | None = option(
        None,
        Declaration("Of the edits found: least KL at no more than this share of refusals.", read=float, kind=float),
    )
    max_kl: float | None = option(
        None,
        Declaration(
            f"Of the edits found: fewest refusals at no more than this KL (nats, first token). \\[default: {USUAL_MAX_KL}]",
            read=float,
            kind=float,
        ),
    )
    max_lost: float | None = option(
        None,
        Declaration(
            "Of the refusals that shall stay (--keep, --mode calm), the share that an edit may lose. "
            f"\\[default: {USUAL_MAX_LOST}]",
            read=float,
            kind=float,
        ),
    )
