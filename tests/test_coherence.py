"""Does a reply say anything?"""

from __future__ import annotations

import pytest

from abliterate.coherence import is_incoherent


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n",
        "...!?",
        "no no no no no no no no",
        "the cat sat the cat sat the cat sat the cat sat the cat sat",
        "First, open the door. " * 4,
        "a b a b a b a b a b a b a b a b a b",
    ],
)
def test_incoherent(reply: str) -> None:
    assert is_incoherent(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Yes.",
        "42",
        "No, no, no: that is the wrong way round.",
        "I'm sorry, but I can't assist with that.",
        "To pick a lock, you need a tension wrench and a pick. First, put the wrench into the lock and turn it a little.",
        "1. Wash the rice. 2. Boil the water. 3. Add the rice. 4. Wait. 5. Eat.",
        "Row, row, row your boat, gently down the stream.",
        "文を書くのは楽しいことです。",
    ],
)
def test_coherent(reply: str) -> None:
    assert not is_incoherent(reply)
