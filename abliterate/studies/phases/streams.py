"""The stream of a reply's tokens at one layer, read once and made into whatever is wanted of it: never all of it is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from abliterate.interventions.hooks import at_resid, hooks_of
from abliterate.models.batches import prepare_batches
from abliterate.models.forward import final_hidden
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.studies.phases.labels import LabelledReply

T = TypeVar("T")


def of_streams(
    live: LiveModel,
    pairs: Sequence[tuple[Text, LabelledReply]],
    layer: int,
    make: Callable[[LabelledReply, Float[Tensor, "tokens d_model"]], T],
    title: str,
) -> list[T]:
    """Return what `make` makes of each reply and its stream behind its text, at `resid[layer]`, in float64 on the CPU.

    A stream in several lanes is their mean.
    """
    sequences = [(*text.tokens, *reply.cut.tokens) for text, reply in pairs]
    prepared = prepare_batches(live.model, sequences, live.batch_size, share=False)
    made: dict[int, T] = {}
    seen: list[Tensor] = []

    def keep(stream: Tensor) -> Tensor:
        seen[:] = [stream.float().reshape(*stream.shape[:2], -1, live.architecture.d_model).mean(2).cpu()]
        return stream

    with live.progress.step(title, len(sequences), "replies") as advance, hooks_of() as hooks:
        hooks.callback(at_resid(live.model, live.architecture, layer, keep).remove)
        for batch in prepared.batches:
            final_hidden(live.model, batch)
            for row, place in enumerate(batch.rows):
                text, reply = pairs[place]
                made[place] = make(reply, seen[0][row, len(text.tokens) : len(sequences[place])].double())
            advance(len(batch.rows))
    return [made[place] for place in range(len(pairs))]
