"""The thinking switch: each of its positions is one that a chat format takes."""

from __future__ import annotations

from transformers import AutoTokenizer

from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.thinking_modes import THINKING_MODES
from fixtures.tiny_chat import TINY


def test_each_position_is_taken_and_no_other() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    for thinking in THINKING_MODES:
        assert ChatFormat(tokenizer, thinking=thinking).switches() == {}  # this template has none
    switched = "{% if enable_thinking %}think{% endif %}{{ messages }}"
    found = [ChatFormat(tokenizer, thinking=one, template=switched).switches() for one in THINKING_MODES]
    assert [one["enable_thinking"] for one in found] == [one == "on" for one in THINKING_MODES]
