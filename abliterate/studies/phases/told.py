"""What the model says to every phrase in every form, cut into segments and labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.models.decoding import Decoding
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Form, Forms
from abliterate.prompts.phrases import Phrase, Phrases, Side
from abliterate.prompts.texts import Text
from abliterate.replies.concepts import concept_of
from abliterate.storage.record_log import RecordLog
from abliterate.studies.phases.labels import CutReply, Label, LabelledReply, cut, labelled
from abliterate.studies.phases.method import SETTLE
from abliterate.studies.replies import Replies, Unit, reply_rows, said, samples_of_train


@dataclass(frozen=True)
class Listening:
    """How replies are asked for and labelled."""

    tokens: int
    samples: int
    seed: int = 0
    settle: int = SETTLE
    label: Label = concept_of
    kept: RecordLog | None = None


@dataclass(frozen=True)
class Told:
    """One side of the phrases in one form: the greedy reply to each, and samples of some."""

    unit: Unit
    greedy: tuple[LabelledReply, ...]
    samples: tuple[tuple[LabelledReply, ...], ...]

    @property
    def form(self) -> Form:
        """Return the form."""
        return self.unit.form

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the category of each phrase."""
        return tuple(phrase.category for phrase in self.unit.phrases)

    def places(self, *splits: str) -> list[int]:
        """Return which phrases are in these parts of the split; all where none is named."""
        return [place for place, one in enumerate(self.unit.phrases) if not splits or one.split in splits]

    def cases(self, *splits: str) -> list[tuple[Phrase, Text, LabelledReply]]:
        """Return phrase, text and greedy reply of these parts."""
        return [
            (self.unit.phrases[place], self.unit.texts[place], self.greedy[place]) for place in self.places(*splits)
        ]

    def every(self, place: int) -> tuple[LabelledReply, ...]:
        """Return all replies to one phrase."""
        return (self.greedy[place], *self.samples[place])

    def rows(self, decode: Callable[[list[int]], str]) -> list[dict[str, Any]]:
        """Return a row for each reply: its text, and its segments with where each begins and ends."""
        replies = [
            Replies(one.cut.tokens, tuple(two.cut.tokens for two in drawn))
            for one, drawn in zip(self.greedy, self.samples, strict=True)
        ]
        rows = reply_rows(self.unit, replies, decode)
        every = [reply for place in range(len(self.greedy)) for reply in self.every(place)]
        return [{**row, **segments_json(reply)} for row, reply in zip(rows, every, strict=True)]


def segments_json(reply: LabelledReply) -> dict[str, Any]:
    """Return the segments of a reply with their texts, and how many tokens it has."""
    return {
        "tokens": len(reply.cut.tokens),
        "segments": [
            {"concept": one.concept, "begin": one.begin, "end": one.end, "text": piece.text}
            for one, piece in zip(reply.segments, reply.cut.pieces, strict=True)
        ],
    }


def listen(
    live: LiveModel, phrases: Phrases, form: Form, side: Side, listening: Listening, *, draw: bool = False
) -> Told:
    """Return what is said to one side of the phrases in a form; where `draw`, with samples of the train part.

    Raises InputError as `replies_to`.
    """
    unit = Unit.of(live, form, phrases, side)
    greedy = said(live, unit, Decoding(), tokens=listening.tokens, kept=listening.kept)
    samples = samples_of_train(
        live,
        unit,
        tokens=listening.tokens,
        samples=listening.samples if draw else 0,
        seed=listening.seed,
        kept=listening.kept,
    )

    def heard(tokens: Sequence[int]) -> LabelledReply:
        reply: CutReply = cut(tokens, live.tokenizer, form.language)
        return labelled(reply, listening.label, form.language, listening.settle)

    return Told(unit, tuple(map(heard, greedy)), tuple(tuple(map(heard, own)) for own in samples))


def chosen_form(forms: Forms, sentence: str, where: str) -> Form | None:
    """Return the first form of a kind of sentence at a place, else the first of that kind, else none."""
    own = [form for form in forms if form.sentence == sentence]
    return next((form for form in own if form.where == where), own[0] if own else None)
