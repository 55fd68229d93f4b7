"""How replies are made: by default the likeliest token, so that what differs is the edit's."""

from __future__ import annotations

from abliterate.chat.options import ChatOptions
from abliterate.records.option import declarations


def test_defaults_are_in_the_range_that_is_declared() -> None:
    options = ChatOptions()
    assert options.temperature == 0
    for name, declaration in declarations(ChatOptions).items():
        if declaration.least is not None:
            assert getattr(options, name) >= declaration.least
