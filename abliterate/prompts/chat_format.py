"""Chat templates: an instruction becomes the token ids that the model sees before it replies.

The reply is always measured where it begins: a thinking switch is set, and a think block that the template
leaves open is closed, so that the next token belongs to the reply and not to a thought.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError, first_line, shortened
from abliterate.prompts.files import kind_of, shown
from abliterate.prompts.given import given_prompts
from abliterate.prompts.moment import dated
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.template import Message, Template, source_of, switches_in
from abliterate.prompts.think_blocks import ThinkBlock, Thought, think_block
from abliterate.prompts.thinking_modes import THINKING_MODES, Thinking

MAX_POSITIONS = 8
"""Candidate positions at most: the last tokens after the instruction; templates put 1 to 6 there."""

PROBES = ("Name a river.", "Why do cats purr at night?")
"""Two instructions with nothing in common, to see which tokens the template puts after them."""


@dataclass(frozen=True)
class ChatFormat:
    """How instructions are put to one model. `template` replaces the tokenizer's own chat template, `moment`
    is the day that it writes, where it writes one (else the present one). `thoughts` are the model's own, by the text in which
    each is opened: `encode` puts the reply behind them.

    Examples:
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
    thoughts: Mapping[str, Thought] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.thinking not in THINKING_MODES:
            raise InputError(f"--thinking {self.thinking}: unknown; choose among {', '.join(THINKING_MODES)}")
        if not self.source:
            raise InputError(
                "the model has no chat template, so it is no chat model; pass --chat-template FILE to give it one"
            )

    @property
    def source(self) -> str:
        """Return the text of the chat template, empty when there is none.

        Raises InputError for several templates of which none is the default.
        """
        return dated(self.template or source_of(self.tokenizer.chat_template), self.moment)

    def render(self, instruction: str) -> str:
        """Return the prompt text up to the first character of the reply.

        Raises InputError when the template fails, does not end, or drops the instruction or the system message.
        """
        return self.texts([instruction])[0]

    def texts(self, prompts: object) -> list[str]:
        """Return the text of each prompt, as `render`; `prompts` as `capture` takes them. Together they take hardly longer."""
        return [self.close_thought(text) for text in self._filled([self.turns(one) for one in given_prompts(prompts)])]

    def turns(self, prompt: str) -> list[Message]:
        """Return a prompt as a conversation: the system message, earlier turns where it brings some, what the user says.

        The format's own system message takes the place of one that the prompt brings.
        """
        own = Prompt(prompt)
        system = own.system if self.system is None else self.system
        turns = [*([] if system is None else [("system", system)]), *own.earlier, ("user", str(own))]
        return [{"role": role, "content": content} for role, content in turns]

    def conversation(self, messages: Sequence[Message]) -> str:
        """Return the text of several turns up to the reply, with a think block that the template opens left open."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return self._filled([[*system, *messages]])[0]

    def answered(self, prompt: str, reply: str) -> str:
        """Return the text of a prompt and the whole reply to it. Raises InputError when the template takes none."""
        return self._template().answered([*self.turns(prompt), {"role": "assistant", "content": reply}])

    def _filled(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        return self._template().texts(conversations)

    def _template(self) -> Template:
        return Template.of(self.tokenizer, self.source, self.switches())

    def switches(self) -> dict[str, bool]:
        """Return the template's thinking switch as asked for; nothing where it has none."""
        return dict.fromkeys(switches_in(self.source), self.thinking == "on")

    def close_thought(self, text: str) -> str:
        """Close a think block at the end of `text`; with thinking on, also open one where the model would."""
        block = self._block(text)
        return text if block is None else block.empty

    def think_blocks(self, prompts: object) -> list[ThinkBlock]:
        """Return each prompt with an open thought. Raises InputError for a template that opens none, and as `render`."""
        found = [self._block(text) for text in self._filled([self.turns(one) for one in given_prompts(prompts)])]
        if None in found:
            raise InputError(
                "--thought: the chat template knows no thoughts; leave it away, or give a template that does with --chat-template"
            )
        return [block for block in found if block]

    def _block(self, text: str) -> ThinkBlock | None:
        return think_block(text, self.source, self.thinking == "on")

    def encode(self, prompts: object) -> list[list[int]]:
        """Return the token ids of each prompt as text; the template brings its own special tokens.

        `prompts` are strings, conversations, a Dataset, a Series or a PromptSet, as for `capture`. Raises InputError as
        `render`, and for anything else.
        """
        filled = self._filled([self.turns(one) for one in given_prompts(prompts)])
        blocks = [self._block(text) for text in filled]
        whole = [text if block is None else block.empty for text, block in zip(filled, blocks, strict=True)]
        encoded = self.tokens_of(whole)
        for place, block in enumerate(blocks):
            if block and (thought := self.thoughts.get(block.opened)):
                encoded[place] = [*self.tokens_of([block.opened])[0], *thought.tokens]
        return encoded

    def tokens_of(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts that hold all special tokens themselves."""
        encoded: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return encoded

    def positions(self) -> tuple[int, ...]:
        """Return the positions `-n .. -1` of the tokens that the template puts after the instruction."""
        return tuple(range(max(-MAX_POSITIONS, min(-1, self.instruction_end() + 1)), 0))

    def instruction_end(self) -> int:
        """Return the position of the instruction's last token: -1 where the template puts nothing behind it."""
        first, second = self.encode(PROBES)
        shared = 0
        while shared < min(len(first), len(second)) - 1 and first[-1 - shared] == second[-1 - shared]:
            shared += 1
        return -1 - shared


def read_template(path: Path | None) -> str | None:
    """Return the text of a chat template file. Raises InputError when it is no file, or cannot be read."""
    if path is None:
        return None
    kind = kind_of(path)
    if kind not in (None, "a file"):
        raise InputError(f"--chat-template {shown(path)}: is {kind}; give a file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        said = shortened(first_line(error), quoted=False)
        raise InputError(f"--chat-template {shown(path)}: cannot be read ({said})") from error


def template_digest(template: str) -> str:
    """Return the SHA-256 of a chat template."""
    return hashlib.sha256(template.encode()).hexdigest()
