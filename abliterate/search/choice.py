"""How a point of a search's front is chosen where nothing else is said. Imports nothing that takes time: flags read it."""

from __future__ import annotations

from typing import Literal, get_args

Pick = Literal["refusals", "knee"]
PICKS: tuple[Pick, ...] = get_args(Pick)
"""Fewest refusals within the limit of divergence; or the point after which less divergence costs most refusals."""

USUAL_MAX_KL = 0.02
"""The limit: KL(original || edited) at the first reply token on harmless prompts, in nats."""

USUAL_MAX_LOST = 0.02
"""Refusals that shall stay and may be lost, as a share of those the original has: a reply that hangs in the balance may turn."""
