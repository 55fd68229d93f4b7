"""A text cut where its tokens end, so that each can have a colour of its own."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from abliterate.chat.conversation import INCOMPLETE


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """Return what each token adds to the text, special tokens too.

    A character that several tokens make is the last one's; those before it add nothing. A token is decoded behind the one
    before it: alone, a first word loses its space.
    """
    found: list[str] = []
    before = begun = 0
    for end in range(1, len(ids) + 1):
        known, text = str(tokenizer.decode(ids[before:begun])), str(tokenizer.decode(ids[before:end]))
        whole = end == len(ids) or not text.endswith(INCOMPLETE)
        found.append(text[len(known) :] if whole else "")
        if whole:
            before, begun = begun, end
    return found
