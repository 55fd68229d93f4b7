"""One side's conversation: what was said so far, and its reply to the next prompt as it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSide
from abliterate.chat.stream import Reader, sampler, tokens
from abliterate.errors import InputError
from abliterate.models.decoding import Decoding
from abliterate.models.generation import end_tokens
from abliterate.models.generation_modes import Generation
from abliterate.prompts.chat_format import ChatFormat
from abliterate.replies.refusals import is_refusal
from abliterate.replies.thinking import visible_reply

Message = Mapping[str, str]
Ended = Literal["", "end", "length", "context", "stopped"]
"""Why a reply ended: it does not end yet, by itself, at --max-new-tokens, at the end of the context, by the user."""

INCOMPLETE = "\ufffd"
"""What a tokenizer writes for the first bytes of a character whose last are still to come."""


@dataclass(frozen=True)
class ChatReply:
    """What one side has said to one prompt, so far where `ended` is empty."""

    tokenizer: PreTrainedTokenizerBase = field(repr=False, compare=False)
    tokens: tuple[int, ...] = ()
    ended: Ended = ""

    @property
    def raw(self) -> str:
        """Return the text with its special tokens."""
        return str(self.tokenizer.decode(list(self.tokens)))

    @property
    def text(self) -> str:
        """Return the text without special tokens, its thought included."""
        return self._complete(str(self.tokenizer.decode(list(self.tokens), skip_special_tokens=True)))

    @property
    def answer(self) -> str:
        """Return the text without the thought before it: what goes into the conversation."""
        visible = visible_reply(self.raw)
        if visible == self.raw.strip():
            return self.text
        for token in special_tokens(self.tokenizer):
            visible = visible.replace(token, "")
        return self._complete(visible)

    @property
    def refused(self) -> bool:
        """Whether the reply opens as a refusal."""
        return is_refusal(self.raw)

    def _complete(self, text: str) -> str:
        return text if self.ended else text.rstrip(INCOMPLETE)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the texts of the tokens that are never shown."""
    return [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]


class Conversation:
    """What one side and the user have said. It changes: each turn adds to it, `reset` empties it."""

    def __init__(self, side: ChatSide, settings: ChatOptions, generation: Generation = "greedy") -> None:
        self.side = side
        self.settings = settings
        self.generation = generation
        self.chat = side.chat
        self.messages: tuple[Message, ...] = ()
        self.turns = 0
        self.reader = Reader(side.model, side.active)
        self.ends = end_tokens(side.model, side.chat.tokenizer)

    def reset(self, system: str | None) -> None:
        """Begin a new conversation. Raises InputError, and goes on with the old one, where the template takes no system
        message.
        """
        chat = replace(self.chat, system=system)
        chat.render("Hello")
        self.chat, self.messages = chat, ()

    @property
    def last_prompt(self) -> str | None:
        """Return what was said last to the model, None where nothing was."""
        return self.messages[-2]["content"] if self.messages else None

    def take_back(self) -> None:
        """Forget the last prompt and its reply; the next reply has a seed of its own all the same."""
        self.messages = self.messages[:-2]

    def draw_at(self, temperature: float) -> None:
        """Make replies at another temperature from now on."""
        self.settings = replace(self.settings, temperature=temperature)

    def turn_to(self, side: ChatSide) -> None:
        """Go on with another edit of the same model: what was said stays, and is read anew."""
        self.side, self.reader = side, Reader(side.model, side.active)

    def begin(self, prompt: str) -> Iterator[ChatReply]:
        """Return the reply to `prompt` as it grows; `record` makes prompt and reply part of the conversation.

        Raises InputError at once when the conversation does not fit the model's context.
        """
        ids = encode(self.chat, [*self.messages, user_message(prompt)])
        context = context_length(self.side.model)
        if context is not None and len(ids) >= context:
            raise InputError(
                f"{self.side.role}: the conversation has {len(ids)} tokens, the model's context {context}; "
                "/reset begins a new one"
            )
        return self._grow(ids, context)

    def _grow(self, ids: Sequence[int], context: int | None) -> Iterator[ChatReply]:
        self.turns += 1
        limit = self.settings.max_new_tokens
        why: Ended = "length"
        if context is not None and context - len(ids) < limit:
            limit, why = context - len(ids), "context"
        # Each turn has a seed of its own, so that a longer reply on one side leaves the next turn alike on both.
        seed = self.settings.seed + self.turns
        if self.generation == "greedy" or self.settings.temperature:
            choose = sampler(self.settings.temperature, seed)
        else:
            choose = Decoding(self.generation, seed).chooser(self.side.model, ids, self.ends, limit)
        reply = ChatReply(self.chat.tokenizer)
        for token in tokens(self.reader, ids, self.ends, limit, choose):
            reply = replace(reply, tokens=(*reply.tokens, token))
            yield reply
        yield replace(reply, ended=why if len(reply.tokens) == limit else "end")

    def record(self, prompt: str, reply: ChatReply) -> None:
        """Add a prompt and what was replied to it."""
        self.messages = (*self.messages, user_message(prompt), {"role": "assistant", "content": reply.answer})


def user_message(prompt: str) -> Message:
    """Return the message of a user."""
    return {"role": "user", "content": prompt}


def take_turn(
    conversations: Sequence[Conversation], prompt: str, stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[ChatReply, ...]]:
    """Put `prompt` to every side and yield their replies as they grow, a token of each at a time.

    Where `stopped` says so, or the caller goes away, replies end as they are; what was said stays part of the
    conversation. Raises InputError, before any side has said a word, when one of them cannot go on.
    """
    streams = [conversation.begin(prompt) for conversation in conversations]
    replies = [ChatReply(conversation.chat.tokenizer) for conversation in conversations]
    try:
        while not all(reply.ended for reply in replies):
            for place, stream in enumerate(streams):
                if not replies[place].ended and not stopped():
                    replies[place] = next(stream)
            if stopped():
                replies = [reply if reply.ended else replace(reply, ended="stopped") for reply in replies]
            yield tuple(replies)
    finally:
        for conversation, reply in zip(conversations, replies, strict=True):
            conversation.record(prompt, reply)


def encode(chat: ChatFormat, messages: Sequence[Message]) -> list[int]:
    """Return the token ids of a conversation up to the first of the reply, as `ChatFormat.encode` of one prompt.

    With thinking on, the model thinks: a think block that the template opens stays open. Raises InputError when the
    template fails.
    """
    try:
        text = chat.conversation(messages)
    except InputError as error:
        if len(messages) == 1:
            raise
        raise InputError(f"{error}; it may not take several turns, /reset") from error
    ids: list[int] = chat.tokenizer(
        text if chat.thinking == "on" else chat.close_thought(text), add_special_tokens=False
    )["input_ids"]
    return ids


def context_length(model: PreTrainedModel) -> int | None:
    """Return how many tokens the model was made for, where its config says so."""
    length: int | None = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return length
