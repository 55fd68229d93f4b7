"""The positions of a chat template's thinking switch."""

from __future__ import annotations

from typing import Literal, get_args

Thinking = Literal["on", "off", "auto"]
THINKING_MODES: tuple[Thinking, ...] = get_args(Thinking)
