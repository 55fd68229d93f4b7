"""The log-odds that replies open as refusals under many interventions, several of them in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.directions.scores import final_states, prepare_openings, refusal_score
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.replies.openings import Opening
from abliterate.storage.record_log import RecordLog, digest, once
from abliterate.studies.replies import Tokens

ROWS = 8
"""Interventions in one forward: more make batches of so few prompts that nothing is gained."""

Under = Callable[[Tensor, int], AbstractContextManager[Any]]
"""The intervention of some rows, one a copy of the batch; the number is that of the first row among all."""


def scores_under(
    live: LiveModel,
    openings: Sequence[Opening],
    rows: Float[Tensor, "rows ..."],
    prompts: Sequence[Tokens],
    under: Under,
    name: object,
    kept: RecordLog | None = None,
) -> Float[Tensor, "rows prompts"]:
    """Return the refusal log-odds of each prompt under the intervention that each row stands for.

    `name` tells, in what json can hold, what `under` makes of rows: it is part of what is kept. Raises InputError for logits
    that are no numbers.
    """
    parts: list[list[float]] = []
    for start in range(0, len(rows), ROWS):
        own = rows[start : start + ROWS]

        def make(own: Tensor = own, start: int = start) -> list[list[float]]:
            batch = prepare_openings(live.model, prompts, openings, live.batch_size, copies=len(own))
            with under(own, start):
                states = final_states(live.model, batch, len(own))
                found: list[list[float]] = refusal_score(Head(live.model), batch, states).tolist()
            return found

        key = ["scores", name, start, [*map(list, openings)], digest(own.tolist()), [*map(list, prompts)]]
        parts += once(kept, key, make)
    return torch.tensor(parts)
