"""`--mode calm` before its search: the look-alikes that are refused, and a direction of theirs that is not that of harmful prompts."""

from __future__ import annotations

from dataclasses import dataclass

from abliterate.activations.cache import ActivationCache
from abliterate.activations.capture import Activations, capture
from abliterate.directions.calm import turned_away
from abliterate.directions.directions import Directions
from abliterate.directions.methods import make_directions
from abliterate.parallel.processes import Processes
from abliterate.pipeline.kept import KeptReplies
from abliterate.pipeline.load import Loaded
from abliterate.progress import Progress
from abliterate.prompts.splits import HARMFUL
from abliterate.storage.cache import cache_folder


@dataclass(frozen=True)
class TrueRefusals:
    """The harmful train prompts that are refused, and their activations."""

    prompts: tuple[str, ...]
    activations: Activations


def true_refusals(loaded: Loaded, kept: KeptReplies, harmless: Activations, progress: Progress) -> TrueRefusals:
    """Capture the harmful train prompts that are refused, at the positions of the harmless ones."""
    own = loaded.splits.kept("train")[HARMFUL].prompts
    prompts = tuple(own[place] for place in kept.refused[HARMFUL])
    found = capture(
        loaded.model,
        loaded.splits.chat,
        [*prompts],
        positions=harmless.positions,
        batch_size=loaded.options.batch_size,
        cache=ActivationCache(cache_folder() / "activations", loaded.source.checkpoint.fingerprint()),
        architecture=loaded.architecture,
        processes=Processes.launched(),
        kept=loaded.unfinished.under("true refusals"),
        progress=progress,
    )
    return TrueRefusals(prompts, found)


def calm_directions(
    loaded: Loaded, over_refusal: Directions, refused: Activations, answered: Activations
) -> Directions:
    """Return the directions of over-refusal, made orthogonal to those between harmful prompts that are refused and answered ones."""
    places = loaded.splits.chat.positions()
    return turned_away(over_refusal, make_directions(refused.at(places), answered.at(places), loaded.options.direction))
