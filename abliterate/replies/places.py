"""The places of a reply: its tokens, and where its sentences end.

    reply[j]         token j of the reply, from 0
    sentence_end[j]  the last token of its sentence j; one that was cut off has no end
    reply_end        the last token of the reply

The reply is what the model wrote: a beginning that it was given belongs to the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.prompts.texts import Text, TokenText
from abliterate.replies.sentences import sentences


def with_reply(text: Text, reply: Sequence[int], tokenizer: PreTrainedTokenizerBase, language: str = "en") -> Text:
    """Return the text with a reply's token ids behind it, and its places. An empty reply adds nothing.

    Sentences are those of what the ids say: ids that a model wrote need not be those of that text. Raises InputError for
    a text that has a reply.
    """
    if "reply_end" in text.places:
        raise InputError("the text has a reply already; add the whole reply to the text without one")
    tokens, start = tuple(reply), len(text.tokens)
    if not tokens:
        return text
    places = {f"reply[{place}]": start + place for place in range(len(tokens))}
    places |= {
        f"sentence_end[{place}]": start + end for place, end in enumerate(sentence_ends(tokens, tokenizer, language))
    }
    return Text((*text.tokens, *tokens), {**text.places, **places, "reply_end": start + len(tokens) - 1})


def sentence_ends(reply: Sequence[int], tokenizer: PreTrainedTokenizerBase, language: str = "en") -> tuple[int, ...]:
    """Return, for each sentence of a reply that came to its end, the index of the token that holds its last character."""
    found = TokenText(tokenizer, tuple(reply), skip=True)
    return tuple(found.token_of(one.end) for one in sentences(found.text, language) if one.finished)
