"""What the model says to every phrase in every form, cut into sentences, each labelled: safety or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from abliterate.models.decoding import Decoding
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Form, Forms
from abliterate.prompts.phrases import Phrase, Phrases, Side
from abliterate.prompts.texts import Text
from abliterate.replies.concepts import concept_of
from abliterate.replies.sentences import sentences
from abliterate.storage.record_log import RecordLog
from abliterate.studies.positions.method import LOCATIONS, start_of
from abliterate.studies.replies import Replies, Tokens, Unit, decoder, reply_rows, said, samples_of_train

Safety = Callable[[str, str], bool]
"""Whether a sentence, in a language, is one of safety: it refuses, moralises, redirects."""


def safe_sentence(sentence: str, language: str) -> bool:
    """Return whether a sentence refuses, moralises or redirects, by the rules."""
    return concept_of(sentence, language) == "safety"


@dataclass(frozen=True)
class Reply:
    """One reply: its sentences as far as the locations go and one more, and whether each is safety."""

    tokens: Tokens
    text: str
    sentences: tuple[str, ...]
    labels: tuple[bool, ...]

    @property
    def start(self) -> int | None:
        """Return the location from which it refuses, None for never."""
        return start_of(self.labels)


@dataclass(frozen=True)
class Case:
    """One phrase in one form, and what was said to it; without replies where none was asked for."""

    phrase: Phrase
    text: Text
    greedy: Reply | None = None
    samples: tuple[Reply, ...] = ()

    @property
    def name(self) -> str:
        """Return what tells the phrase from others, whatever the side."""
        return self.phrase.harmful[0]

    @property
    def drawn(self) -> tuple[Reply, ...]:
        """Return the samples, or the greedy reply where there are none."""
        return self.samples or ((self.greedy,) if self.greedy else ())

    @property
    def every(self) -> tuple[Reply, ...]:
        """Return all replies."""
        return (*((self.greedy,) if self.greedy else ()), *self.samples)

    @property
    def share(self) -> float:
        """Return the share of replies whose first sentence is safety."""
        return sum(reply.start == 1 for reply in self.drawn) / len(self.drawn)


@dataclass(frozen=True)
class Heard:
    """One form: its cases of both sides, in the order of the phrases."""

    form: Form
    harmful: tuple[Case, ...]
    harmless: tuple[Case, ...]

    def of(self, side: Side, split: str | None = None) -> tuple[Case, ...]:
        """Return the cases of a side, of one part of the split or all."""
        cases = self.harmful if side == "harmful" else self.harmless
        return tuple(case for case in cases if split in (None, case.phrase.split))

    @cached_property
    def starts(self) -> tuple[int | None, ...]:
        """Return where the greedy reply to each harmful phrase begins to refuse."""
        return tuple(case.greedy.start for case in self.harmful if case.greedy)


@dataclass(frozen=True)
class Listening:
    """How replies are asked for and judged."""

    tokens: int
    samples: int
    seed: int
    safety: Safety
    kept: RecordLog | None = None


def listen(
    live: LiveModel, phrases: Phrases, forms: Forms, listening: Listening
) -> tuple[dict[str, Heard], list[dict[str, Any]]]:
    """Return what was heard of each form, and a row for each reply.

    Every harmful phrase gets a greedy reply. Samples are drawn for the train part alone, where vectors are made, and for
    forms of which a greedy reply refuses at all; harmless phrases get greedy replies on the report part, where figures are.
    """
    decode, heard, rows = decoder(live), {}, []
    for form in forms:
        asked = Unit.of(live, form, phrases, "harmful")
        replies = [Replies(one) for one in said(live, asked, Decoding(), tokens=listening.tokens, kept=listening.kept)]
        cases = [
            case_of(*one, form.language, listening.safety, decode) for one in zip(*columns(asked), replies, strict=True)
        ]
        if any(case.greedy and case.greedy.start for case in cases):
            drawn = samples_of_train(
                live,
                asked,
                tokens=listening.tokens,
                samples=listening.samples,
                seed=listening.seed,
                kept=listening.kept,
            )
            replies = [Replies(one.greedy, own) for one, own in zip(replies, drawn, strict=True)]
            cases = [
                case_of(*one, form.language, listening.safety, decode)
                for one in zip(*columns(asked), replies, strict=True)
            ]
        rows += reply_rows(asked, replies, decode)
        heard[form.name] = Heard(form, tuple(cases), harmless_of(live, form, phrases, listening, rows))
    return heard, rows


def columns(unit: Unit) -> tuple[tuple[Phrase, ...], tuple[Text, ...]]:
    """Return the phrases and the texts of a unit."""
    return unit.phrases, unit.texts


def harmless_of(
    live: LiveModel, form: Form, phrases: Phrases, listening: Listening, rows: list[dict[str, Any]]
) -> tuple[Case, ...]:
    """Return the harmless cases of a form, those of the report part with replies, which are added to `rows`."""
    unit, decode = Unit.of(live, form, phrases, "harmless"), decoder(live)
    report = unit.part("report")
    replies = [Replies(one) for one in said(live, report, Decoding(), tokens=listening.tokens, kept=listening.kept)]
    rows += reply_rows(report, replies, decode)
    given = iter(replies)
    return tuple(
        case_of(phrase, text, next(given), form.language, listening.safety, decode)
        if phrase.split == "report"
        else Case(phrase, text)
        for phrase, text in zip(*columns(unit), strict=True)
    )


def case_of(
    phrase: Phrase, text: Text, replies: Replies, language: str, safety: Safety, decode: Callable[[list[int]], str]
) -> Case:
    """Return a case with its replies cut and labelled."""
    greedy, *samples = (judged(one, decode(list(one)), language, safety) for one in replies.all)
    return Case(phrase, text, greedy, tuple(samples))


def judged(tokens: Tokens, text: str, language: str, safety: Safety) -> Reply:
    """Return a reply cut into its first sentences, each labelled."""
    heard = tuple(one.text for one in sentences(text, language))[: len(LOCATIONS)]
    return Reply(tokens, text, heard, tuple(safety(one, language) for one in heard))
