"""A run on a model that thinks: its own thoughts about every prompt, behind which the reply is asked for and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.places import capture_places
from abliterate.errors import InputError
from abliterate.evaluation.statistics import mean_of
from abliterate.evaluation.thinking import Thinking, ThinkingObservation, observe_thinking
from abliterate.models.decoding import Decoding
from abliterate.models.generation import generate
from abliterate.parallel.processes import Processes
from abliterate.pipeline.load import Loaded
from abliterate.pipeline.replies import training_replies
from abliterate.progress import Progress
from abliterate.prompts.splits import HARMFUL, HARMLESS
from abliterate.prompts.thoughts import inside_thoughts, opened, thought_of, thought_places
from abliterate.replies.behaviours import BEHAVIOURS
from abliterate.search.examples import OpenThoughts
from abliterate.search.stages import SearchData
from abliterate.storage.record_log import RecordLog

CLIFF_PLACES = 12
"""Tokens at either end of a thought at which the component along the direction is shown."""


def think(loaded: Loaded, progress: Progress) -> Loaded:
    """Let the model think about all prompts of a run, and put every reply behind the thought; nothing without --thought.

    Raises InputError for a template that opens no thought, and where no thought ends within its room.
    """
    room, splits = loaded.options.thought, loaded.splits
    if room is None:
        return loaded
    prompts = [*dict.fromkeys(prompt for part in splits.parts() for prompt in part.prompts)]
    blocks = splits.chat.think_blocks(prompts)
    said = generate(
        loaded.model,
        loaded.tokenizer,
        opened(splits.chat, blocks),
        room,
        decoding=Decoding(loaded.options.generation, loaded.options.seed),
        batch_size=loaded.options.batch_size,
        processes=Processes.launched(),
        kept=loaded.unfinished.under("thoughts"),
        progress=progress,
        title="the model's thoughts",
    )
    thoughts = {block.opened: thought_of(loaded.tokenizer, one, block) for block, one in zip(blocks, said, strict=True)}
    cut = sum(not thought.ended for thought in thoughts.values())
    if cut == len(thoughts):
        raise InputError(
            f"--thought {room}: none of {cut} thoughts ends within so many tokens; give more, or leave it away"
        )
    note = f"{cut} of {len(thoughts)} thoughts had not ended after {room} tokens and were closed there"
    chat = replace(splits.chat, thoughts=thoughts)
    return replace(loaded, splits=replace(splits, chat=chat), notes=loaded.notes + ((note,) if cut else ()))


def with_thoughts(loaded: Loaded, data: SearchData, progress: Progress) -> SearchData:
    """Return what a search sees of a model that thinks: it looks for refusals from the open thought on, and without one.

    Behind the model's own thought, which says that it will decline, there is little left to decide: the place where a refusal parts
    from an answer lies inside. What is harmless stays as it is behind the thoughts, and inside of them.
    """
    chat, room = loaded.splits.chat, loaded.options.thought
    assert room is not None
    (harmful, harmless), (judging, staying) = loaded.splits.training(), loaded.splits.selecting()
    at_once = replace(chat, thinking="off", thoughts={})
    blocks, of_judging = (chat.think_blocks(one.prompts) for one in (harmful, judging))
    train, select = ([*map(tuple, opened(chat, one))] for one in (blocks, of_judging))
    plain, plain_select = ([*map(tuple, at_once.encode(one.prompts))] for one in (harmful, judging))
    thoughts = [chat.thoughts[block.opened] for block in blocks]
    thought_out = [
        ((*thought.tokens, *reply) if thought.ended else thought.tokens, shown or not thought.ended)
        for thought, (reply, shown) in zip(thoughts, data.replies, strict=True)
    ]
    said = training_replies(loaded, {HARMFUL: plain}, "listen, no thought", progress, "replies without a thought")[0]
    scorer = BEHAVIOURS[loaded.options.target]
    shown = [scorer.shows(text) for text in loaded.tokenizer.batch_decode(said)]
    tags = {tokens: block.tag for tokens, block in zip([*train, *select], [*blocks, *of_judging], strict=True)}
    return replace(
        data,
        harmful=[*train, *plain],
        select_harmful=[*select, *plain_select],
        replies=[*thought_out, *zip(map(tuple, said), shown, strict=True)],
        harmless=[*data.harmless, *inside_thoughts(chat, harmless.prompts)],
        select_harmless=[*data.select_harmless, *inside_thoughts(chat, staying.prompts)],
        open_thoughts=OpenThoughts(tags, room),
    )


def observe_modes(loaded: Loaded, kept: RecordLog, progress: Progress) -> ThinkingObservation | None:
    """Observe the loaded model on the report prompts with and without thoughts; None without --thought."""
    if loaded.options.thought is None:
        return None
    harmful, harmless = loaded.splits.reporting()
    prompts = {HARMFUL: harmful.prompts, HARMLESS: harmless.prompts}
    scorer = BEHAVIOURS[loaded.options.target]
    return observe_thinking(loaded.live(progress), prompts, HARMLESS, loaded.options.thought, kept=kept, scorer=scorer)


def compare_modes(
    loaded: Loaded, original: ThinkingObservation | None, kept: RecordLog, progress: Progress
) -> Thinking | None:
    """Observe the edited model, which is loaded now, and hold it against the original; None without --thought."""
    edited, room = observe_modes(loaded, kept, progress), loaded.options.thought
    return Thinking.of(room, original, edited) if room and original and edited else None


def cliff(
    loaded: Loaded, direction: Float[Tensor, " d_model"], layer: int, progress: Progress
) -> Mapping[str, Any] | None:
    """Return the component along the direction at `resid[layer]` over the first and last tokens of the original's thoughts.

    Of the report prompts of both sides, each place with its mean and interval. Refusal is said to stay strong through a thought
    and to fall off a cliff at its last tokens (arXiv 2510.06036). None without --thought, or where a side has no thought that is long enough.
    """
    if loaded.options.thought is None:
        return None
    sides = {}
    for kind, part in zip((HARMFUL, HARMLESS), loaded.splits.reporting(), strict=True):
        texts, names = thought_places(loaded.splits.chat, part.prompts, CLIFF_PLACES)
        if not texts:
            return None
        found = capture_places(loaded.live(progress), texts, names, [layer])
        along = torch.einsum("tpd,d->pt", found.resid[:, 0].float(), direction.float().cpu())
        means = [mean_of(row.tolist()) for row in along]
        sides[kind] = {
            "thoughts": len(texts),
            "mean": [one.value for one in means],
            "low": [one.interval[0] for one in means],
            "high": [one.interval[1] for one in means],
        }
    return {"layer": layer, "places": list(names), **sides}
