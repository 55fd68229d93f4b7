"""Chat templates: an instruction becomes the token ids that the model sees before it replies.

The reply is always measured where it begins: a thinking switch is set, and a think block that the template
leaves open is closed, so that the next token belongs to the reply and not to a thought.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta
from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError, first_line
from abliterate.prompts.moment import dated
from abliterate.prompts.thinking_modes import THINKING_MODES as THINKING_MODES
from abliterate.prompts.thinking_modes import Thinking as Thinking

SWITCHES = ("enable_thinking", "thinking")
"""Variables by which templates turn thinking on and off: Qwen3, GLM, SmolLM3; Granite, DeepSeek V3.1."""

MAX_POSITIONS = 8
"""Candidate positions at most: the last tokens after the instruction; templates put 1 to 6 there."""

PROBES = ("Name a river.", "Why do cats purr at night?")
"""Two instructions with nothing in common, to see which tokens the template puts after them."""


@dataclass(frozen=True)
class ChatFormat:
    """How instructions are put to one model. `template` replaces the tokenizer's own chat template, `moment`
    is the day that it writes, where it writes one (else the present one).

    Example:
        >>> chat = ChatFormat(tokenizer)
        >>> chat.render("Describe a river.").count("Describe a river.")
        1
        >>> chat.positions()  # the tokens that the template puts behind the instruction
        (-4, -3, -2, -1)
    """

    tokenizer: PreTrainedTokenizerBase
    system: str | None = None
    thinking: Thinking = "auto"
    template: str | None = None
    moment: str | None = None

    def __post_init__(self) -> None:
        if self.thinking not in THINKING_MODES:
            raise InputError(f"--thinking {self.thinking}: unknown; choose among {', '.join(THINKING_MODES)}")
        if not self.source:
            raise InputError(
                "the model has no chat template, so it is no chat model; pass --chat-template FILE to give it one"
            )

    @property
    def source(self) -> str:
        """Return the text of the chat template, empty when there is none."""
        template = self.template or self.tokenizer.chat_template
        if isinstance(template, dict):  # several named templates: the plain one is what chats use
            template = template.get("default")
        return dated(template or "", self.moment)

    def render(self, instruction: str) -> str:
        """Return the prompt text up to the first character of the reply.

        Raises InputError when the template fails or does not take a system message.
        """
        messages = [{"role": "user", "content": instruction}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        try:
            text = self.tokenizer.apply_chat_template(
                messages, chat_template=self.source, tokenize=False, add_generation_prompt=True, **self.switches()
            )
        except Exception as error:
            hint = "; the template may not take --system" if self.system is not None else ""
            raise InputError(f"the chat template fails: {first_line(error) or type(error).__name__}{hint}") from error
        if self.system is not None and self.system not in text:
            raise InputError("the chat template drops the system message; leave --system away")
        return self.close_thought(str(text))

    def switches(self) -> dict[str, Any]:
        """Return the template's thinking switch as asked for; nothing where it has none."""
        return dict.fromkeys(switches_in(self.source), self.thinking == "on")

    def close_thought(self, text: str) -> str:
        """Close a think block at the end of `text`; with thinking on, also open one where the model would."""
        for opening, closing in THINK_BLOCKS:
            begins = text.rstrip().endswith(opening)
            if begins:
                return f"{text.rstrip()}\n\n{closing}\n\n"
            if (
                self.thinking == "on"
                and opening in self.source
                and closing in self.source
                and not text.rstrip().endswith(closing)
            ):
                return f"{text}{opening}\n\n{closing}\n\n"
        return text

    def encode(self, instructions: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each rendered instruction; the template brings its own special tokens."""
        texts = [self.render(instruction) for instruction in instructions]
        encoded: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return encoded

    def positions(self) -> tuple[int, ...]:
        """Return the positions `-n .. -1` of the tokens that the template puts after the instruction."""
        first, second = self.encode(PROBES)
        shared = 0
        while shared < min(len(first), len(second)) and first[-1 - shared] == second[-1 - shared]:
            shared += 1
        return tuple(range(-max(1, min(shared, MAX_POSITIONS)), 0))


@lru_cache(maxsize=16)
def switches_in(source: str) -> tuple[str, ...]:
    """Return the thinking switches that a template reads; kept, since to parse it takes as long as to fill it in."""
    try:
        names = meta.find_undeclared_variables(jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(source))
    except jinja2.TemplateSyntaxError:
        # Tags that only transformers' own environment knows, such as {% generation %}.
        names = {switch for switch in SWITCHES if switch in source}
    return tuple(switch for switch in SWITCHES if switch in names)


def read_template(path: Path | None) -> str | None:
    """Return the text of a chat template file. Raises InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig") if path else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--chat-template {path}: cannot be read ({error})") from error


def template_digest(template: str) -> str:
    """Return the SHA-256 of a chat template."""
    return hashlib.sha256(template.encode()).hexdigest()


THINK_BLOCKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # DeepSeek R1, Qwen3, GLM, SmolLM3, Hunyuan, Nemotron
    ("<thinking>", "</thinking>"),  # models tuned on Claude-style transcripts
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral, Ministral 3
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere Command A Reasoning
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss: the harmony format
    ("<|channel>thought", "<channel|>"),  # Gemma 4
)
"""How thoughts are opened and closed before the reply begins."""
