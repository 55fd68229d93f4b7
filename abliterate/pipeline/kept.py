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
    """Let the model reply to the prompts whose refusals shall stay; nothing where none were named.

    Raises InputError for a list of which it refuses none, on either split: there is no refusal to keep, or none to judge by.
    """
    if not loaded.splits.kept("train"):
        return KeptReplies()
    train, select = (refusals_of(loaded, split, progress) for split in ("train", "select"))
    openings = [one for own in train.values() for one in own.values()]
    # Of those that are answered none can be lost, and one that an edit makes refused must not hide one that it loses.
    judged = [one.prompt for own in select.values() for one in own.values()]
    return KeptReplies(Kept(openings, judged), {name: [*own] for name, own in train.items()})


def refusals_of(loaded: Loaded, split: str, progress: Progress) -> dict[str, dict[int, OriginalReply]]:
    """Return, list by list, how the model's refusals open on the prompts of a split, by the prompt's place.

    Raises InputError for a list of which it refuses none.
    """
    lists, chat = loaded.splits.kept(split), loaded.splits.chat
    tokens = {name: [*map(tuple, chat.encode(one.prompts))] for name, one in lists.items()}
    title = f"refusals that shall stay, {split} part"
    replies = training_replies(loaded, tokens, f"kept {split}", progress, title, split)
    found = {}
    for (name, own), said in zip(tokens.items(), replies, strict=True):
        texts = loaded.tokenizer.batch_decode(said)
        refused = [place for place, text in enumerate(texts) if is_refusal(text)]
        if not refused:
            raise InputError(
                f"the model refuses none of the {len(own)} {split} prompts of {lists[name].spec}, so there is no refusal to "
                f"keep; give others with --{name}"
            )
        found[name] = {place: OriginalReply(own[place], tuple(said[place][:KEPT_TOKENS])) for place in refused}
    return found
