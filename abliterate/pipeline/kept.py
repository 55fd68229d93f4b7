"""The refusals that a run shall leave: on which prompts, and how the model's own begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from abliterate.errors import InputError
from abliterate.pipeline.load import Loaded
from abliterate.pipeline.replies import training_replies
from abliterate.progress import Progress
from abliterate.replies.refusals import is_refusal
from abliterate.search.examples import OriginalReply
from abliterate.search.kept import KEPT_TOKENS, Kept


@dataclass(frozen=True)
class KeptReplies:
    """What holds refusals in a search, and which train prompts of each list (by place) are refused."""

    kept: Kept = field(default_factory=Kept)
    refused: Mapping[str, Sequence[int]] = field(default_factory=dict)


def collect_kept(loaded: Loaded, progress: Progress) -> KeptReplies:
    """Let the model reply to the train prompts whose refusals shall stay; nothing where none were named.

    Raises InputError for a list of which it refuses none: there is no refusal to keep.
    """
    splits = loaded.splits
    lists, chosen = splits.kept("train"), splits.kept("select")
    if not lists:
        return KeptReplies()
    tokens = {name: [*map(tuple, splits.chat.encode(one.prompts))] for name, one in lists.items()}
    replies = training_replies(loaded, tokens, "kept", progress, "refusals that shall stay")
    refused, openings = {}, []
    for (name, own), said in zip(tokens.items(), replies, strict=True):
        texts = loaded.tokenizer.batch_decode(said)
        refused[name] = [place for place, text in enumerate(texts) if is_refusal(text)]
        if not refused[name]:
            raise InputError(
                f"the model refuses none of the {len(own)} train prompts of {lists[name].spec}, so there is no refusal to "
                f"keep; give others with --{name}"
            )
        openings += [OriginalReply(own[place], tuple(said[place][:KEPT_TOKENS])) for place in refused[name]]
    select = [tuple(one) for part in chosen.values() for one in splits.chat.encode(part.prompts)]
    return KeptReplies(Kept(openings, select), refused)
