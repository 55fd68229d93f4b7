"""What a model says to phrases in forms: one greedy reply to each text, and samples at temperature 1.

A form and a side are a unit: an interrupted study goes on after the units that it has kept. Samples are seeded each by its
number and its prompt, so that neither other texts nor batches decide them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.errors import InputError
from abliterate.models.decoding import Decoding
from abliterate.models.generation import generate
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Form
from abliterate.prompts.phrases import Phrase, Phrases, Side
from abliterate.prompts.texts import Text, texts_of
from abliterate.storage.record_log import RecordLog, once

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """One side of the phrases in one form: a text for each phrase, in their order."""

    form: Form
    side: Side
    phrases: tuple[Phrase, ...]
    texts: tuple[Text, ...]

    @classmethod
    def of(cls, live: LiveModel, form: Form, phrases: Phrases, side: Side) -> Unit:
        """Return the texts of a form, under the model's chat template where it has a user's turn.

        Raises InputError as `texts_of`.
        """
        return cls(form, side, phrases.phrases, texts_of(live.chat, form, phrases, side))


@dataclass(frozen=True)
class Replies:
    """What was said to one text: token ids without those that end a reply."""

    greedy: Tokens
    samples: tuple[Tokens, ...] = ()

    @property
    def all(self) -> tuple[Tokens, ...]:
        """Return the greedy reply and the samples."""
        return (self.greedy, *self.samples)


def replies_to(
    live: LiveModel,
    unit: Unit,
    *,
    tokens: int,
    samples: int = 0,
    seed: int = 0,
    kept: RecordLog | None = None,
) -> tuple[Replies, ...]:
    """Return the replies to each text of a unit, at most so many tokens long.

    `kept` holds what an interrupted study of the same weights has left; interventions are not part of its key (give
    `kept.under(...)` what tells them apart). Raises InputError for a number of tokens below 1 or of samples below 0, and
    for logits that are NaN or infinite.
    """
    for flag, number, least in (("--tokens", tokens, 1), ("--samples", samples, 0)):
        if number < least:
            raise InputError(f"{flag} {number}: give a number from {least} up")
    name = f"{unit.form.name}, {unit.side}"
    sequences = [text.tokens for text in unit.texts]

    def said(decoding: Decoding, title: str) -> list[list[int]]:
        return generate(
            live.model,
            live.tokenizer,
            sequences,
            tokens,
            batch_size=live.batch_size,
            decoding=decoding,
            progress=live.progress,
            title=title,
            names=[f"{name} text {place + 1}" for place in range(len(sequences))],
        )

    def make() -> list[list[list[int]]]:
        greedy = said(Decoding(), f"replies: {name}")
        drawn = [
            said(
                Decoding("sampled", seed_of_sample(seed, number)), f"replies: {name}, sample {number + 1} of {samples}"
            )
            for number in range(samples)
        ]
        return [[list(one) for one in row] for row in zip(greedy, *drawn, strict=True)]

    found = once(kept, reply_key(unit, tokens, samples, seed), make)
    return tuple(Replies(tuple(greedy), tuple(map(tuple, rest))) for greedy, *rest in found)


def seed_of_sample(seed: int, number: int) -> int:
    """Return the seed of the draws of one sample; `seed` is the study's."""
    return 1_000_003 * seed + number


def reply_key(unit: Unit, tokens: int, samples: int, seed: int) -> list[Any]:
    """Return what decides the replies of a unit, besides the weights and what else the records stand for."""
    return ["replies", unit.form.name, unit.side, [text.tokens for text in unit.texts], tokens, samples, seed]


def reply_rows(unit: Unit, replies: Sequence[Replies], decode: Callable[[list[int]], str]) -> list[dict[str, Any]]:
    """Return a row for each reply of a unit, as the file of replies of a study holds them; samples count from 1, 0 is greedy."""
    return [
        {
            "form": unit.form.name,
            "side": unit.side,
            "category": phrase.category,
            "phrase": phrase.on(unit.side),
            "split": phrase.split,
            "sample": number,
            "text": decode(list(reply)),
        }
        for phrase, own in zip(unit.phrases, replies, strict=True)
        for number, reply in enumerate(own.all)
    ]
