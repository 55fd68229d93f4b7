"""Both sides opened, each with a conversation of its own, asked as the run of the edit asked."""

from __future__ import annotations

from dataclasses import replace

from abliterate.chat.conversation import Conversation
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSides, open_sides
from abliterate.errors import InputError
from abliterate.pipeline.condition_options import SaidTemplate
from abliterate.pipeline.conditions import PUT, settle, told_of
from abliterate.pipeline.options import AskOptions
from abliterate.progress import SILENT, Progress


def begin(
    options: AskOptions,
    said: SaidTemplate,
    chat_options: ChatOptions,
    against: str | None = None,
    progress: Progress = SILENT,
) -> tuple[ChatSides, list[Conversation]]:
    """Load `options.model`, and `against` beside it where one is given; what is not `said` is as in the run of the edit.

    Raises InputError as `open_sides` and `settle`.
    """
    if chat_options.temperature and said.generation == "model":
        raise InputError("--temperature and --generation model both say how tokens are drawn; leave one of them away")
    names = [name for name in PUT if name != "generation" or not chat_options.temperature]
    settled = settle(said.on(options), said.said, [options.model], against, names)
    sides = open_sides(settled.options, against, progress)
    sides = replace(sides, note=f"{sides.note}\n{told_of(settled)}")
    return sides, [Conversation(side, chat_options, settled.options.generation) for side in sides.sides]
