"""`abliterate chat`: what is said is said in the terminal; here both sides begin."""

from __future__ import annotations

from abliterate.chat.begin import begin
from abliterate.chat.conversation import Conversation
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSides
from abliterate.pipeline.condition_options import SaidTemplate
from abliterate.pipeline.options import AskOptions
from abliterate.progress import SILENT, Progress


def chat(
    options: AskOptions,
    said: SaidTemplate,
    chat_options: ChatOptions,
    against: str | None = None,
    progress: Progress = SILENT,
) -> tuple[ChatSides, list[Conversation]]:
    """Return both sides and their conversations. Raises InputError as `begin`."""
    return begin(options, said, chat_options, against, progress)
