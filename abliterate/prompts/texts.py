"""Texts with named places: a phrase in a form, as token ids, and which token is where.

    phrase_start, phrase_end    the first and the last token of the phrase, where the text says it first
    instruction_end             the last token of the user's turn (of the whole text where there is no template)
    -n .. -1                    the tokens that the template puts behind the user's turn
    prompt_end                  the last token before the model goes on: behind a reply that is already begun

A place is the index of a token, from 0. What ends inside of a token ends with it, and a character that several tokens hold
a part of ends with the last of them. `abliterate.replies.places` adds the places of a reply.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.forms import Filled, Form
from abliterate.prompts.phrases import Phrases, Side


@dataclass(frozen=True)
class Text:
    """Token ids, and named places in them. Raises InputError for a place outside of the tokens.

    Examples:
        >>> text = Text.of(tokenizer, load_forms()["question"], "bake bread")
        >>> tokenizer.decode(text.tokens[text.place("phrase_start") : text.place("phrase_end") + 1])
        ' bake bread'
        >>> text.place("prompt_end") - text.place("instruction_end")  # the template's tokens behind the user's turn
        4
        >>> sorted(text.places)
        ['-1', '-2', '-3', '-4', 'instruction_end', 'phrase_end', 'phrase_start', 'prompt_end']
    """

    tokens: tuple[int, ...]
    places: Mapping[str, int]

    def __post_init__(self) -> None:
        for name, token in self.places.items():
            if not 0 <= token < len(self.tokens):
                raise InputError(f"the place {name} is at token {token}; the text has {len(self.tokens)} tokens")

    def place(self, name: str) -> int:
        """Return the index of the token that is there. Raises InputError for a place that the text does not have."""
        if name not in self.places:
            raise InputError(f"the text has no place {name}; it has {', '.join(self.places) or 'none'}")
        return self.places[name]

    @classmethod
    def of(
        cls, chat: ChatFormat | PreTrainedTokenizerBase, form: Form, phrase: str, others: Sequence[str] = ()
    ) -> Text:
        """Return a phrase in a form, under the chat template where the form has a user's turn.

        `chat` may be a bare tokenizer, which raw forms need no template of. Raises InputError where the template is missing,
        changes the user's words or strips the beginning of a reply, and for too few `others`.
        """
        filled = form.fill(phrase, others)
        if form.where == "raw":
            return raw_text(chat.tokenizer if isinstance(chat, ChatFormat) else chat, form, filled)
        return templated_text(chat if isinstance(chat, ChatFormat) else ChatFormat(chat), form, filled)


@dataclass(frozen=True)
class TokenText:
    """What tokens say, and which of them completes a character. Special tokens are part of the text unless `skip`."""

    tokenizer: PreTrainedTokenizerBase
    tokens: tuple[int, ...]
    skip: bool = False

    @cached_property
    def text(self) -> str:
        """Return what all tokens say."""
        return self._said(len(self.tokens))

    def token_of(self, end: int) -> int:
        """Return the index of the first token with which the first `end` characters are there."""
        return bisect_left(range(len(self.tokens)), end, key=lambda place: self._covered(place + 1))

    def token_from(self, begin: int) -> int:
        """Return the index of the token in which the character at `begin` begins."""
        last = self.token_of(begin) if begin else -1
        return last if begin and self._covered(last + 1) > begin else last + 1

    def _covered(self, count: int) -> int:
        if count not in self._counts:
            self._counts[count] = self._count(count)
        return self._counts[count]

    @cached_property
    def _counts(self) -> dict[int, int]:
        return {}

    def _count(self, count: int) -> int:
        # A character that the last of these tokens begins and another ends is not there yet, whatever stands for it.
        return sum(
            1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._said(count), self.text, strict=False))
        )

    def _said(self, count: int) -> str:
        return str(
            self.tokenizer.decode(
                list(self.tokens[:count]), skip_special_tokens=self.skip, clean_up_tokenization_spaces=False
            )
        )


def texts_of(chat: ChatFormat | PreTrainedTokenizerBase, form: Form, phrases: Phrases, side: Side) -> tuple[Text, ...]:
    """Return one side of the phrases in a form; other phrases that it asks for are of the same side and split.

    Raises InputError as `Text.of`, and for phrases of another language than the form's.
    """
    if form.language != phrases.language:
        raise InputError(
            f"form {form.name} is in the language {form.language!r} and the phrases are in {phrases.language!r}; "
            "load both in the same"
        )
    return tuple(
        Text.of(chat, form, phrase.on(side), [one.on(side) for one in phrases.others(phrase, form.others)])
        for phrase in phrases
    )


def raw_text(tokenizer: PreTrainedTokenizerBase, form: Form, filled: Filled) -> Text:
    """Return raw text as its tokenizer takes it, with the token that begins a text where there is one."""
    tokens = list(tokenizer(filled.content)["input_ids"])
    while tokens and tokens[-1] == tokenizer.eos_token_id:
        tokens.pop()  # some tokenizers end each text: nothing would be left to go on with
    found = TokenText(tokenizer, tuple(tokens))
    places = phrase_places(found, form, filled)
    return Text(found.tokens, {**places, "prompt_end": len(tokens) - 1})


def templated_text(chat: ChatFormat, form: Form, filled: Filled) -> Text:
    """Return a user's turn under the chat template, and behind it the beginning of a reply where the form has one."""
    prompt = chat.render(filled.content)
    (tokens,) = chat.encode([filled.content])
    found = TokenText(chat.tokenizer, tuple(tokens))
    places = phrase_places(found, form, filled)
    behind = {str(place): len(tokens) + place for place in chat.positions()}
    whole = tokens
    if form.where == "reply":
        begun = begun_reply(chat, form, filled, prompt)
        whole = chat.tokenizer(prompt + begun, add_special_tokens=False)["input_ids"]
        if list(whole[: len(tokens)]) != list(tokens):  # the two would share a token, and the model writes whole ones
            whole = [*tokens, *chat.tokenizer(begun, add_special_tokens=False)["input_ids"]]
    return Text(tuple(whole), {**places, **behind, "prompt_end": len(whole) - 1})


def phrase_places(found: TokenText, form: Form, filled: Filled) -> dict[str, int]:
    """Return where phrase and instruction are. Raises InputError where the tokens do not say the user's words."""
    start = found.text.rfind(filled.content)
    if start < 0:
        template = "the tokenizer changes" if form.where == "raw" else "the chat template or the tokenizer changes"
        raise InputError(
            f"form {form.name}: {template} the words {filled.content!r}, so that no place in them can be found; "
            "leave the form away"
        )
    return {
        "phrase_start": found.token_from(start + filled.begin),
        "phrase_end": found.token_of(start + filled.end),
        "instruction_end": found.token_of(start + len(filled.content)),
    }


def begun_reply(chat: ChatFormat, form: Form, filled: Filled, prompt: str) -> str:
    """Return how the beginning of a reply goes on from `prompt`, with the space that the template puts before replies.

    Raises InputError for a template that does not show what the assistant said.
    """
    try:
        text = chat.answered(filled.content, filled.reply)
    except InputError as error:
        raise InputError(f"form {form.name}: {error}") from error
    before, said, _ = text.rpartition(filled.reply.strip())
    if not said:
        raise InputError(
            f"form {form.name}: the chat template strips the reply {filled.reply!r}, so that none can be begun; "
            'take forms with where = "user" or "raw", or give another template with --chat-template'
        )
    between = before[len(prompt) :] if before.startswith(prompt) else ""
    # What is no space stands for something that the template adds to finished replies alone.
    return filled.reply if between.strip() else between + filled.reply
