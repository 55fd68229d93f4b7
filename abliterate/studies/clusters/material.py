"""What clusters are made of: harmful prompts with the harmless ones that match them, the model's own replies, and what is known of each prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.errors import InputError, NoRefusalsError
from abliterate.models.decoding import Decoding
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Form, Forms
from abliterate.prompts.phrases import Phrases
from abliterate.prompts.texts import Text
from abliterate.replies.openings import Opening, find_openings
from abliterate.replies.refusals import is_refusal
from abliterate.storage.record_log import RecordLog
from abliterate.studies.clusters.openings import COVERAGE, Targets, targets_of
from abliterate.studies.clusters.openings import LENGTH as OPENING
from abliterate.studies.clusters.options import EVERY_FRAME, Target
from abliterate.studies.clusters.wording import CATEGORY, FIRST_WORD, FRAME, LENGTH, REPLY, quartiles
from abliterate.studies.replies import Replies, Tokens, Unit, reply_rows, said

ENOUGH, QUICK_ENOUGH = 24, 8
"""Refused prompts that the study needs."""

ANSWERS = 48
"""Harmless train prompts whose replies show how the model answers."""


@dataclass(frozen=True)
class Material:
    """Prompts of both sides, each harmful one beside the harmless one that matches it, in one order.

    `attributes` are known of the harmful prompts by name; `splits` are their parts; `targets` what `f(Y)` scores, `openings`
    those of the refusal log-odds; `refused` says which harmful prompts the model refuses.
    """

    harmful: tuple[Text, ...]
    harmless: tuple[Text, ...]
    names: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    splits: tuple[str, ...]
    targets: Targets
    openings: tuple[Opening, ...]
    refused: tuple[bool, ...] = ()
    units: tuple[Unit, ...] = ()
    replies: tuple[Mapping[str, Any], ...] = ()

    def places(self, *splits: str) -> list[int]:
        """Return the places of the prompts of some parts."""
        return [place for place, one in enumerate(self.splits) if one in splits]


def frames_of(frame: str, forms: Forms) -> Forms:
    """Return the forms that phrases are put into: the frame alone, or every form in a user's turn.

    Raises InputError for a frame without `{p}`, and where no form is in a user's turn.
    """
    language = forms.forms[0].language
    if frame != EVERY_FRAME:
        return Forms(forms.spec, (Form("frame", "user", "complete", user=frame, language=language),))
    own = tuple(form for form in forms if form.where == "user")
    if not own:
        raise InputError('--frame all: none of the forms is where = "user"; give a frame with {p} in it')
    return Forms(forms.spec, own)


def material_of(
    live: LiveModel,
    phrases: Phrases,
    forms: Forms,
    *,
    tokens: int,
    target: Target = "crossed",
    enough: int = ENOUGH,
    kept: RecordLog | None = None,
) -> Material:
    """Return the prompts, what the model says to the harmful ones, and the openings that its replies have.

    Raises NoRefusalsError for a model that never refuses, or never answers, and InputError for fewer than `enough` refusals.
    """
    units = [Unit.of(live, form, phrases, "harmful") for form in forms]
    matched = [Unit.of(live, form, phrases, "harmless") for form in forms]

    def decode(ids: list[int]) -> str:
        return str(live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    heard = [said(live, unit, Decoding(), tokens=tokens, kept=kept) for unit in units]
    rows = [
        row for unit, own in zip(units, heard, strict=True) for row in reply_rows(unit, list(map(Replies, own)), decode)
    ]
    replies = [one for own in heard for one in own]
    refused = [is_refusal(decode(list(one))) for one in replies]
    splits = [phrase.split for unit in units for phrase in unit.phrases]
    if sum(refused) < enough:
        raise shortage(sum(refused), len(refused), enough)
    calm = few_of(matched[0], ANSWERS)
    answers = said(live, calm, Decoding(), tokens=tokens, kept=kept)
    rows += reply_rows(calm, list(map(Replies, answers)), decode)
    train = [(one, said_no) for one, said_no, split in zip(replies, refused, splits, strict=True) if split == "train"]
    train += [(one, is_refusal(decode(list(one)))) for one in answers]
    targets, openings = both_openings([one for one, no in train if no], [one for one, no in train if not no], target)
    every = [(phrase, unit.form) for unit in units for phrase in unit.phrases]
    texts = [text for unit in units for text in unit.texts]
    return Material(
        tuple(texts),
        tuple(text for unit in matched for text in unit.texts),
        tuple(phrase.on("harmful") for phrase, _ in every),
        {
            CATEGORY: tuple(phrase.category for phrase, _ in every),
            FRAME: tuple(form.name for _, form in every),
            FIRST_WORD: tuple(phrase.on("harmful").split()[0] for phrase, _ in every),
            LENGTH: tuple(quartiles([len(text.tokens) for text in texts])),
            REPLY: tuple(decode(list(one[:OPENING])) for one in replies),
        },
        tuple(splits),
        targets,
        openings,
        tuple(refused),
        tuple(units),
        tuple(rows),
    )


def shortage(refused: int, total: int, enough: int) -> InputError:
    """Return the error for a model that refuses too little."""
    if not refused:
        return NoRefusalsError(
            f"the model never refuses: none of its {total} replies is a refusal, so that there is nothing to cluster; give "
            "phrases that it declines with --phrases, or choose another model"
        )
    return InputError(
        f"{refused} of {total} harmful prompts are refused, and clusters need {enough}; give more phrases that the model "
        "declines with --phrases"
    )


def few_of(unit: Unit, count: int) -> Unit:
    """Return the first prompts of a unit's train part."""
    own = [place for place, phrase in enumerate(unit.phrases) if phrase.split == "train"][:count]
    phrases, texts = ([some[place] for place in own] for some in (unit.phrases, unit.texts))
    return Unit(unit.form, unit.side, tuple(phrases), tuple(texts))  # type: ignore[arg-type]


def both_openings(
    refused: Sequence[Tokens], answered: Sequence[Tokens], target: Target
) -> tuple[Targets, tuple[Opening, ...]]:
    """Return what `f(Y)` scores, and the openings of the refusal log-odds."""
    return targets_of(refused, answered, target), find_openings(refused, answered, coverage=COVERAGE)
