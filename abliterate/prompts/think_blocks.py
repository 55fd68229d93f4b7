"""How models open and close a thought before they reply: by which tags, and where a prompt with a template ends in one."""

from __future__ import annotations

from dataclasses import dataclass

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

HARMONY_HEADER, HARMONY_THOUGHT = "<|start|>assistant", "<|channel|>analysis<|message|>"
HARMONY_FINAL = "<|channel|>final<|message|>"
HARMONY_REPLY = f"<|end|>{HARMONY_HEADER}{HARMONY_FINAL}"
"""gpt-oss thinks first whatever it is told: its channel is opened and closed as its format wants, a message each.

https://cookbook.openai.com/articles/openai-harmony
"""


@dataclass(frozen=True)
class ThinkBlock:
    """A prompt in which a thought is open: `opened` is the text up to its first token, `closed` what ends it and begins
    the reply, and `tag` what the model itself writes to end it."""

    opened: str
    closed: str
    tag: str

    @property
    def empty(self) -> str:
        """Return the prompt with a thought that says nothing: the next token belongs to the reply."""
        return self.opened + self.closed


@dataclass(frozen=True)
class Thought:
    """What a model thinks before a reply, as token ids up to where the reply begins; did it end it itself, or was it cut?"""

    tokens: tuple[int, ...]
    ended: bool


def think_block(text: str, template: str, thinks: bool) -> ThinkBlock | None:
    """Return the block in which a prompt ends, opened by the template; with `thinks`, also one that the model would open.

    None where the next token belongs to the reply already.
    """
    end = text.rstrip()
    if end.endswith(HARMONY_HEADER) and "<|channel|>" in template:
        return ThinkBlock(end + HARMONY_THOUGHT, HARMONY_REPLY, HARMONY_FINAL)
    if end.endswith(HARMONY_THOUGHT):
        return ThinkBlock(end, HARMONY_REPLY, HARMONY_FINAL)
    for opening, closing in THINK_BLOCKS:
        closed = f"\n{closing}\n\n"
        if end.endswith(opening):
            return ThinkBlock(f"{end}\n", closed, closing)
        if thinks and opening in template and closing in template and not end.endswith(closing):
            return ThinkBlock(f"{text}{opening}\n", closed, closing)
    return None
