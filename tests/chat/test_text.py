"""No reply can touch the terminal."""

from __future__ import annotations

import json

from abliterate.chat.text import escaped, harmless


def test_no_reply_reaches_the_terminal_itself() -> None:
    text = "a\x1b[31mred\x1b]8;;https://example.org\x07link\x9b2J\x7f\x00\r\x85\u202eb\tc\nd\r\ne [bold]f[/bold]"
    shown = harmless(text)
    assert shown == "a␛[31mred␛]8;;https://example.org␇link�2J␡␀␍��b\tc\nd\ne [bold]f[/bold]"
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text
    assert not set(escaped(json.dumps(text, ensure_ascii=False))) & set("\x1b\x9b\x7f\u202e")
