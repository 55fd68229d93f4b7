"""Whether two models can be held against each other: both must read the same tokens, and predict the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.models.source import Source, load_tokenizer


@dataclass(frozen=True)
class Unloaded:
    """What is known of a model without its weights: how it makes tokens of a text, and how many it predicts."""

    name: str
    source: Source

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Return its tokenizer."""
        return load_tokenizer(self.source)

    @cached_property
    def predicted(self) -> int:
        """Return how many tokens it tells apart."""
        return int(self.source.empty.config.get_text_config().vocab_size)


def check_alike(original: Unloaded, other: Unloaded, texts: Sequence[str]) -> None:
    """Raise InputError unless `other` predicts as many tokens as `original` and makes the same of every text.

    A token that only one of them knows is no difference: none of the texts holds it.
    """
    if original.source.folder.resolve() == other.source.folder.resolve():
        return
    if original.predicted != other.predicted:
        raise unlike(original, other, f"it predicts {other.predicted} tokens, {original.name} {original.predicted}")
    own, theirs = ({place: word for word, place in one.tokenizer.get_vocab().items()} for one in (original, other))
    for place in sorted(own.keys() & theirs.keys()):
        if own[place] != theirs[place]:
            raise unlike(
                original, other, f"its token {place} is {theirs[place]!r}, that of {original.name} {own[place]!r}"
            )
    for text in texts:
        tokens = [one.tokenizer(text, add_special_tokens=False)["input_ids"] for one in (original, other)]
        if tokens[0] != tokens[1]:
            raise unlike(original, other, f"it makes other tokens of the prompt {text[:60]!r}")


def unlike(original: Unloaded, other: Unloaded, difference: str) -> InputError:
    """Return the error for two models of which one says nothing about the other."""
    return InputError(
        f"{other.name}: cannot be held against {original.name}, it is no edit of it: {difference}; give its own original"
    )
