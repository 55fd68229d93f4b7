"""How replies are made in a conversation, declared once. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from abliterate.records.option import Declaration, Panel, option


@dataclass(frozen=True)
class ChatOptions:
    """How replies are made."""

    PANEL: ClassVar[Panel] = "prompts"

    max_new_tokens: int = option(512, Declaration("Tokens of a reply at most.", read=int, kind=int, least=1))
    temperature: float = option(
        0.0,
        Declaration(
            "0 takes the likeliest token, so that what differs is the edit's.", read=float, kind=float, least=0
        ),
    )
    seed: int = option(
        0, Declaration("Seed of the draws at a temperature above 0, alike on both sides.", read=int, kind=int)
    )
