"""What a model says to phrases in forms: one greedy reply to each text, and samples at temperature 1.

A form and a side are a unit: an interrupted study goes on after the units that it has kept. Samples are seeded each by its
number and its prompt, so that neither other texts nor batches decide them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

TRAIN = "train"

SEEDS = 1_000_003
"""The seeds of two studies are so far apart: no sample of one is a sample of the other."""


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

    def part(self, *splits: str) -> Unit:
        """Return what of the unit is in some parts of the split."""
        own = [place for place, phrase in enumerate(self.phrases) if phrase.split in splits]
        return replace(
            self,
            phrases=tuple(self.phrases[place] for place in own),
            texts=tuple(self.texts[place] for place in own),
        )


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
    greedy = said(live, unit, Decoding(), tokens=tokens, kept=kept)
    return tuple(
        Replies(one, drawn)
        for one, drawn in zip(
            greedy, samples_of(live, unit, tokens=tokens, samples=samples, seed=seed, kept=kept), strict=True
        )
    )


def samples_of(
    live: LiveModel, unit: Unit, *, tokens: int, samples: int, seed: int = 0, kept: RecordLog | None = None
) -> tuple[tuple[Tokens, ...], ...]:
    """Return the samples alone, as `replies_to`: so many of each text."""
    if samples < 0:
        raise InputError(f"--samples {samples}: give a number from 0 up")
    drawn = [
        said(live, unit, Decoding("sampled", seed_of_sample(seed, number)), tokens=tokens, kept=kept)
        for number in range(samples)
    ]
    return tuple(tuple(one[place] for one in drawn) for place in range(len(unit.texts)))


def samples_of_train(
    live: LiveModel, unit: Unit, *, tokens: int, samples: int, seed: int = 0, kept: RecordLog | None = None
) -> list[tuple[Tokens, ...]]:
    """Return samples of the train part of a unit, where vectors are made, as `samples_of`: none of the other texts."""
    drawn = iter(samples_of(live, unit.part(TRAIN), tokens=tokens, samples=samples, seed=seed, kept=kept))
    return [next(drawn) if phrase.split == TRAIN else () for phrase in unit.phrases]


def said(
    live: LiveModel, unit: Unit, decoding: Decoding, *, tokens: int, kept: RecordLog | None = None
) -> tuple[Tokens, ...]:
    """Return one reply to each text of a unit, made as `decoding` says; `kept` and errors as `replies_to`."""
    if tokens < 1:
        raise InputError(f"--tokens {tokens}: give a number from 1 up")
    if not unit.texts:
        return ()
    name = f"{unit.form.name}, {unit.side}"
    sequences = [text.tokens for text in unit.texts]
    # Samples are counted from 1 for people; their seeds follow the study's.
    sample = f", sample {decoding.seed % SEEDS + 1}" if decoding.generation == "sampled" else ""

    def make() -> list[list[int]]:
        return generate(
            live.model,
            live.tokenizer,
            sequences,
            tokens,
            batch_size=live.batch_size,
            decoding=decoding,
            progress=live.progress,
            title=f"replies: {name}{sample}",
            names=[f"{name} text {place + 1}" for place in range(len(sequences))],
        )

    key = ["replies", unit.form.name, unit.side, sequences, tokens, decoding.key(live.model)]
    return tuple(map(tuple, once(kept, key, make)))


def decoder(live: LiveModel) -> Callable[[list[int]], str]:
    """Return what says the text of token ids, as sentences are found in it."""
    return lambda ids: str(live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def seed_of_sample(seed: int, number: int) -> int:
    """Return the seed of the draws of one sample; `seed` is the study's."""
    return SEEDS * seed + number


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
