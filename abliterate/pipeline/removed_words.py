"""What an edit removes, or adds, said in words: those of its directions and of their opposites, by mutual information."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import ArchitectureError
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import streaming_of
from abliterate.pipeline.load import Loaded
from abliterate.pipeline.replies import TrainingReplies
from abliterate.studies.features.run import explain
from abliterate.studies.features.words import vocabulary, words_of

WORDS = 10


def removed_words(live: LiveModel, basis: Float[Tensor, "k d_model"], texts: list[str]) -> dict[str, Any] | None:
    """Return ten words for each direction of a basis and for its opposite, chosen among those of the texts.

    All of them compete. None for a model that streams from the disk (which would be read once more), for a stream of several
    lanes, and for texts without words of Latin letters or Hangul.
    """
    if streaming_of(live.model) is not None or len({word for text in texts for word in words_of(text)}) < 2 * WORDS:
        return None
    known = vocabulary(texts)
    try:
        found = explain(live, torch.cat([basis, -basis]).float(), known, count=WORDS).words
    except ArchitectureError:
        return None
    count = len(basis)
    return {
        "vocabulary": len(known),
        "directions": [{"along": list(found[place]), "against": list(found[count + place])} for place in range(count)],
    }


def texts_of_run(loaded: Loaded, training_replies: TrainingReplies) -> list[str]:
    """Return what a run has read and heard: its training prompts, and the replies to the harmful ones."""
    prompts = [str(prompt) for side in loaded.splits.training() for prompt in side.prompts]
    replies = [list(tokens) for tokens, _ in training_replies.replies]
    return [*prompts, *loaded.tokenizer.batch_decode(replies, skip_special_tokens=True)]
