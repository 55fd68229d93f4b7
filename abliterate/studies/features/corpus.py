"""The texts in which features are looked for: prompts, and what the model itself says to them.

A text is the user's words and the beginning of the reply, without the tokens of the template: those are the same in every text and
say who speaks, not what. Sides of the split are by the prompt, so that what is held out is held out with its reply.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from abliterate.errors import InputError
from abliterate.models.generation import generate
from abliterate.models.live_model import LiveModel
from abliterate.prompts.prompt_set import load_prompts, side_of
from abliterate.prompts.sources import public_spec
from abliterate.prompts.texts import TokenText
from abliterate.replies.refusals import is_refusal
from abliterate.storage.record_log import RecordLog, once
from abliterate.studies.features.tokens import Span, Tokens

CORPUS = ("builtin:harmful", "builtin:harmless", "builtin:look-alikes", "builtin:everyday")

LEAST = 24
"""Texts below which there is nothing to hold out."""


@dataclass(frozen=True)
class Passage:
    """A prompt and the reply to it: token ids of both, and where the user's words lie in them."""

    prompt: str
    tokens: Tokens
    begin: int
    end: int
    reply: Tokens
    said: str

    @property
    def part(self) -> str:
        """Return `train`, `select` or `report`, by the prompt."""
        return side_of(self.prompt)

    @property
    def refused(self) -> bool:
        """Return whether the reply refuses, by the rules."""
        return is_refusal(self.said)

    @property
    def text(self) -> str:
        """Return what user and model say."""
        return f"{self.prompt} {self.said}"

    @property
    def span(self) -> Span:
        """Return the tokens of both, those of the template left out."""
        words = range(self.begin, self.end)
        behind = range(len(self.tokens), len(self.tokens) + len(self.reply))
        return Span((*self.tokens, *self.reply), (*words, *behind))

    @property
    def ends(self) -> Span:
        """Return the last token of the user's words and the last before the reply."""
        return Span(self.tokens, tuple(sorted({self.end - 1, len(self.tokens) - 1})))

    @property
    def whole(self) -> Span:
        """Return all tokens, those of the template too."""
        return Span((*self.tokens, *self.reply), tuple(range(len(self.tokens) + len(self.reply))))


@dataclass(frozen=True)
class Corpus:
    """Passages, and the SPECs that their prompts came from."""

    specs: tuple[str, ...]
    passages: tuple[Passage, ...]

    def __len__(self) -> int:
        return len(self.passages)

    def part(self, *names: str) -> Corpus:
        """Return the passages of some sides of the split. Raises InputError where there are none."""
        own = tuple(one for one in self.passages if one.part in names)
        if not own:
            raise InputError(
                f"none of the {len(self)} texts is on the {' or '.join(names)} side of the split; give more"
            )
        return replace(self, passages=own)

    @property
    def texts(self) -> list[str]:
        """Return what each says."""
        return [one.text for one in self.passages]

    @property
    def public(self) -> tuple[str, ...]:
        """Return the SPECs without the folders of this machine."""
        return tuple(public_spec(one) for one in self.specs)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the prompts, in order."""
        return hashlib.sha256(json.dumps([one.prompt for one in self.passages]).encode()).hexdigest()


def prompts_of(specs: Sequence[str], most: int | None = None, *, offline: bool = False) -> list[str]:
    """Return the prompts of all lists, without duplicates; `most` of them, of each list as many.

    Raises InputError for a list that cannot be read, and for fewer prompts than can be held out of.
    """
    lists = [[str(one) for one in load_prompts(spec, offline=offline).prompts] for spec in specs]
    longest = max(map(len, lists), default=0)
    mixed = [own[place] for place in range(longest) for own in lists if place < len(own)]
    found = list(dict.fromkeys(mixed))[:most]
    if len(found) < LEAST:
        raise InputError(f"--corpus holds {len(found)} texts; give at least {LEAST}, so that some can be held out")
    return found


def corpus_of(
    live: LiveModel, specs: Sequence[str], prompts: Sequence[str], reply_tokens: int, kept: RecordLog | None = None
) -> Corpus:
    """Return the prompts with the model's greedy replies to them; prompts whose words the template changes are left out.

    Raises InputError where hardly any are left.
    """
    located = [(prompt, own) for prompt in prompts if (own := place_of(live, prompt)) is not None]
    if len(located) < LEAST:
        raise InputError(f"the chat template changes the words of all but {len(located)} prompts; give other texts")
    sequences = [list(tokens) for _, (tokens, _, _) in located]

    def make() -> list[list[int]]:
        return generate(
            live.model, live.tokenizer, sequences, reply_tokens, batch_size=live.batch_size, progress=live.progress,
            title="replies of the corpus",
        )  # fmt: skip

    replies = once(kept, ["corpus", sequences, reply_tokens], make) if reply_tokens else [[] for _ in sequences]
    said = live.tokenizer.batch_decode(replies, skip_special_tokens=True)
    return Corpus(
        tuple(specs),
        tuple(
            Passage(prompt, tuple(tokens), begin, end, tuple(reply), text)
            for (prompt, (tokens, begin, end)), reply, text in zip(located, replies, said, strict=True)
        ),
    )


def place_of(live: LiveModel, prompt: str) -> tuple[Tokens, int, int] | None:
    """Return a prompt's tokens under the template and where its words begin and end in them; None where they are not to be found."""
    (tokens,) = live.chat.encode([prompt])
    found = TokenText(live.tokenizer, tuple(tokens))
    start = found.text.rfind(prompt)
    if start < 0:
        return None
    return found.tokens, found.token_from(start), found.token_of(start + len(prompt)) + 1
