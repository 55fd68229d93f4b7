"""Chat templates: programs that come with a model, run with bounds, and asked how they want a conversation.

A template of a processor takes a message's content as a list of parts and shows nothing of a plain text; another writes
no role header for the reply, whatever it is asked. Both are seen by what comes out, and what comes out holds the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError, first_line, shortened
from abliterate.parallel.bounded import BoundedWorker, BoundExceeded

Message = Mapping[str, str]
Conversation = Sequence[Message]

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates turn thinking on and off: Qwen3, GLM, SmolLM3; Granite, DeepSeek V3.1."""

SECONDS = 5
"""Of computing, for a template to be read and filled in."""

PROMPTS_A_SECOND = 50
"""Filled-in conversations for which each further second is given; templates of some hundred lines fill in 1,000."""

LARGEST_SOURCE = 2**20
"""Characters of a template: the longest that is published has some 30,000."""

LARGEST_TEXT = 2**22
"""Characters that a template may make of a conversation, beside those of the conversation itself."""

INSTRUCTION, REPLY, SYSTEM = "Name a river in Wales.", "Certainly, the Severn.", "Answer in one sentence."
"""A conversation to see what a template makes of it."""

FORMS = ((False, False), (True, True), (False, True), (True, False))
"""Whether the system message and the others are lists of parts, in the order in which they are tried."""


@dataclass(frozen=True)
class Template:
    """A chat template of one tokenizer, and the switches that it is filled in with."""

    tokenizer: PreTrainedTokenizerBase = field(compare=False, repr=False)
    source: str
    special_tokens: tuple[tuple[str, str], ...]
    switches: tuple[tuple[str, bool], ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, source: str, switches: Mapping[str, bool]) -> Template:
        """Return the template with what a tokenizer gives it. Raises InputError for one that is no template by its size."""
        if len(source) > LARGEST_SOURCE:
            raise InputError(
                f"the chat template has {len(source)} characters, {LARGEST_SOURCE} at most; pass --chat-template FILE"
            )
        special = tuple((name, str(value)) for name, value in tokenizer.special_tokens_map.items())
        return cls(tokenizer, source, special, tuple(switches.items()))

    def texts(self, conversations: Sequence[Conversation]) -> list[str]:
        """Return each conversation as text, up to the first character of the reply.

        Raises InputError when the template fails, does not end, or drops the system message or the last prompt.
        """
        usages = [usage_of(self, one[0]["role"] == "system") for one in conversations]
        filled = fill(self, [(usage.put(one), True) for one, usage in zip(conversations, usages, strict=True)])
        return [self._checked(*one) for one in zip(conversations, filled, usages, strict=True)]

    def answered(self, conversation: Conversation) -> str:
        """Return a conversation that ends with a reply as text. Raises InputError when the template fails or does not end."""
        usage = usage_of(self, conversation[0]["role"] == "system")
        (filled,) = fill(self, [(usage.put(conversation), False)])
        if filled.text is None:
            raise InputError(f"the chat template takes no reply: {filled.error}")
        return filled.text

    def _checked(self, conversation: Conversation, filled: Filled, usage: Usage) -> str:
        """Return the text of a conversation, when it is there, holds what was asked and ends where the reply begins."""
        system = [one["content"] for one in conversation[:1] if one["role"] == "system"]
        if filled.text is None:
            hint = "; the template may not take a system message, of --system or of the list" if system else ""
            raise InputError(f"the chat template fails: {filled.error}{hint}")
        if system and not holds(filled.text, system[0]):
            raise InputError(
                "the chat template drops the system message; leave --system, or the list's system turns, away"
            )
        last = conversation[-1]["content"]
        if not holds(filled.text, last):
            raise InputError(
                f"the chat template drops or changes the prompt {shortened(last)}; pass another with --chat-template FILE"
            )
        return usage.headed(filled.text)


@dataclass(frozen=True)
class Filled:
    """A text, or in one line why there is none."""

    text: str | None
    error: str = ""


@dataclass(frozen=True)
class Usage:
    """How one template is used: which contents are parts, and what stands before a reply in place of its last text.

    `tail` is replaced by `header` where the template writes no header when it is asked to; both are empty where it does.
    """

    system_parts: bool = False
    parts: bool = False
    tail: str = ""
    header: str = ""

    def put(self, conversation: Conversation) -> list[dict[str, Any]]:
        """Return a conversation with its contents in the template's form."""
        return [
            {
                **message,
                "content": [{"type": "text", "text": message["content"]}]
                if (self.system_parts if message["role"] == "system" else self.parts)
                else message["content"],
            }
            for message in conversation
        ]

    def headed(self, text: str) -> str:
        """Return a text with the header of the reply that the template leaves out."""
        if not text.endswith(self.tail):
            raise InputError(
                "the chat template ends in another way for each prompt, so that the reply's header cannot be found; "
                "pass another with --chat-template FILE"
            )
        return text.removesuffix(self.tail) + self.header


@lru_cache(maxsize=64)
def usage_of(template: Template, has_system: bool) -> Usage:
    """Find how a template is used, by what it makes of a conversation. Raises InputError when nothing comes of any form."""
    system = [{"role": "system", "content": SYSTEM}] if has_system else []
    asked = [*system, {"role": "user", "content": INSTRUCTION}]
    answered = [*asked, {"role": "assistant", "content": REPLY}]
    forms = [Usage(*form) for form in FORMS if has_system or form[0] == form[1]]
    tried = fill(
        template,
        [
            one
            for form in forms
            for one in ((form.put(asked), True), (form.put(asked), False), (form.put(answered), False))
        ],
    )
    rows = [tried[place : place + 3] for place in range(0, len(tried), 3)]
    for wanted in ((INSTRUCTION, *([SYSTEM] if has_system else [])), (INSTRUCTION,)):
        for form, (open_end, closed, conversation) in zip(forms, rows, strict=True):
            if (
                open_end.text is not None
                and all(map(open_end.text.__contains__, wanted))
                and "'type'" not in open_end.text
            ):
                ends = header_of(
                    open_end.text, closed.text, conversation.text, dict(template.special_tokens).get("eos_token")
                )
                return Usage(form.system_parts, form.parts, *ends)
    if all(row[0].text is None for row in rows):
        hint = "; the template may not take a system message, of --system or of the list" if has_system else ""
        raise InputError(f"the chat template fails: {rows[0][0].error}{hint}")
    raise InputError(
        "the chat template drops the prompt: its text is in nothing that comes out; pass another with --chat-template FILE"
    )


def header_of(open_end: str, closed: str | None, conversation: str | None, end_token: str | None) -> tuple[str, str]:
    """Return what to take off the end of a prompt, and what to put there, so that a reply follows.

    A template that knows the generation prompt writes more when it is asked for it; one that does not shows the header
    between a prompt and its reply. One that writes a header of its own, unasked, is left as it is. Spaces before the
    reply are its own, as tokenizers make tokens.
    """
    if closed is None or conversation is None or open_end != closed or REPLY not in conversation:
        return "", ""
    tail = closed[closed.rindex(INSTRUCTION) + len(INSTRUCTION) :]
    before = conversation[: conversation.index(REPLY)]
    if INSTRUCTION not in before:
        return "", ""
    header = before[before.rindex(INSTRUCTION) + len(INSTRUCTION) :].rstrip(" ")
    before_end = tail.rstrip().removesuffix(end_token or "")  # the end of a conversation does not stand before a reply
    return (tail, header) if header.startswith(before_end) and header != tail.rstrip(" ") else ("", "")


def fill(template: Template, asked: Sequence[tuple[list[dict[str, Any]], bool]]) -> list[Filled]:
    """Fill a template in with conversations, each with or without the header of the reply, in a process with bounds.

    Raises InputError when it does not end, or takes too much memory.
    """

    try:
        rows = worker_of(template)([list(one) for one in asked], SECONDS + len(asked) // PROMPTS_A_SECOND)
    except BoundExceeded as error:
        raise InputError(f"the chat template fails: {error}; pass another with --chat-template FILE") from error
    return [Filled(*row) for row in rows]


@lru_cache(maxsize=8)
def worker_of(template: Template) -> BoundedWorker:
    """Return the process that fills a template in; it compiles it once."""
    return BoundedWorker(partial(filled_in, template))


def filled_in(template: Template, asked: Sequence[Sequence[Any]]) -> list[tuple[str | None, str]]:
    """Return the text of each conversation, or why there is none, whatever the template does."""

    def one(messages: list[dict[str, Any]], header: bool) -> tuple[str | None, str]:
        try:
            text = template.tokenizer.apply_chat_template(
                messages,
                chat_template=template.source,
                tokenize=False,
                add_generation_prompt=header,
                **dict(template.switches),
            )
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a template raises is its own, and told as such
            return None, shortened(first_line(error), quoted=False)
        if len(text) > LARGEST_TEXT + sum(len(str(message)) for message in messages):
            return None, f"it makes a text of {len(text)} characters of one prompt"
        return text, ""

    return [one(*each) for each in asked]


def holds(text: str, part: str) -> bool:
    """Return whether a text holds another, whose ends a template may trim."""
    return part.strip() in text


@lru_cache(maxsize=16)
def switches_in(source: str) -> tuple[str, ...]:
    """Return the thinking switches that a template reads.

    Its words are looked at and nothing is evaluated: what jinja2 compiles it also computes, where it finds constants.
    """
    try:
        tokens = [(kind, word) for _, kind, word in jinja2.Environment().lex(source) if kind != "whitespace"]
    except jinja2.TemplateSyntaxError:
        return tuple(switch for switch in SWITCHES if switch in source)
    names = {word for (_, dot), (kind, word) in pairwise([("", ""), *tokens]) if kind == "name" and dot != "."}
    return tuple(switch for switch in SWITCHES if switch in names)


def source_of(template: object) -> str:
    """Return the text of what a tokenizer calls its chat template: of several, the one named default.

    Empty where there is none. Raises InputError for several without that name.
    """
    if not isinstance(template, dict):
        return str(template or "")
    if template and "default" not in template:
        raise InputError(
            f"the model has chat templates named {shortened(', '.join(map(str, template)), quoted=False)}, and none named "
            "default; write the one to use into a file and pass it with --chat-template FILE"
        )
    return str(template.get("default") or "")
