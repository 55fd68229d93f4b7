"""When replies turn to safety: replies in phases, what becomes of prompts, when safety begins, and what brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Form, Forms
from abliterate.prompts.phrases import Phrases
from abliterate.replies.concepts import concept_of
from abliterate.storage.record_log import RecordLog
from abliterate.studies.phases.labels import Label
from abliterate.studies.phases.method import SETTLE
from abliterate.studies.phases.onset import CurvePoint, Onset, curve_of, log_rank_p
from abliterate.studies.phases.options import ALPHAS, WAYS, Way
from abliterate.studies.phases.outcomes import Edited, Outcomes, edited, outcomes_of
from abliterate.studies.phases.told import Listening, Told, chosen_form, listen

REPLY_TOKENS = 128
ENOUGH, QUICK_ENOUGH = 16, 3
QUICK_CONTROLS = 2

LAYER = 0.6
"""Of the depth: where vectors are made, and segments embedded."""


@dataclass(frozen=True)
class Asked:
    """What a study of phases is asked, besides model, phrases and forms."""

    tokens: int = REPLY_TOKENS
    samples: int = 4
    settle: int = SETTLE
    layer: Literal["auto"] | int = "auto"
    ways: tuple[Way, ...] = WAYS
    alphas: tuple[float, ...] = ALPHAS
    seed: int = 0
    quick: bool = False

    @property
    def enough(self) -> int:
        """Return how many refusals and answers a vector needs."""
        return QUICK_ENOUGH if self.quick else ENOUGH


@dataclass(frozen=True)
class Turns:
    """What replies to all forms show of one model: labelled replies and outcomes, by form."""

    harmful: Mapping[str, Told]
    harmless: Mapping[str, Told]

    @property
    def outcomes(self) -> dict[str, Outcomes]:
        """Return the outcomes of harmful phrases by form."""
        return {name: outcomes_of(one.form, one.greedy, one.categories) for name, one in self.harmful.items()}

    @property
    def harmless_outcomes(self) -> dict[str, Outcomes]:
        """Return the outcomes of harmless phrases by form."""
        return {name: outcomes_of(one.form, one.greedy, one.categories) for name, one in self.harmless.items()}

    def onsets(self, name: str) -> tuple[Onset, ...]:
        """Return when safety begins in the greedy replies to harmful phrases; those that fall apart are left out."""
        return tuple(reply.onset for reply in self.harmful[name].greedy if not reply.cut.incoherent)

    def curve(self, name: str) -> tuple[CurvePoint, ...]:
        """Return the share that has not yet entered safety, by token."""
        return curve_of(self.onsets(name))


@dataclass(frozen=True)
class Compared:
    """One form of the original and of the edited model: what moved, and whether safety begins at other times."""

    edited: Edited
    log_rank_p: float | None


@dataclass(frozen=True)
class Phases:
    """What was found of one model, and of its original where there is one."""

    asked: Asked
    turns: Turns
    before: Turns | None
    replies: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()

    @property
    def outcomes(self) -> dict[str, Outcomes]:
        """Return the outcomes of harmful phrases by form."""
        return self.turns.outcomes

    @property
    def compared(self) -> dict[str, Compared]:
        """Return each form before and after the edit; nothing where there is no original."""
        if self.before is None:
            return {}
        old, new = self.before.outcomes, self.outcomes
        found = {}
        for name in new:
            onsets = self.before.onsets(name), self.turns.onsets(name)
            found[name] = Compared(edited(old[name], new[name]), log_rank_p(*onsets) if all(onsets) else None)
        return found


def turns_of(
    live: LiveModel,
    phrases: Phrases,
    forms: Forms,
    asked: Asked,
    *,
    label: Label = concept_of,
    kept: RecordLog | None = None,
) -> Turns:
    """Return what a model says to both sides of the phrases in all forms. Raises InputError as `replies_to`."""
    listening = Listening(asked.tokens, asked.samples, asked.seed, asked.settle, label, kept)
    drawn = detection_form(forms)
    harmful = {form.name: listen(live, phrases, form, "harmful", listening, draw=form == drawn) for form in forms}
    harmless = {form.name: listen(live, phrases, form, "harmless", listening) for form in forms}
    return Turns(harmful, harmless)


def detection_form(forms: Forms) -> Form | None:
    """Return the form whose refusals and answers make the vectors: a complete one in a user's turn, if there is any."""
    return chosen_form(forms, "complete", "user")


def phases(
    live: LiveModel,
    phrases: Phrases,
    forms: Forms,
    asked: Asked | None = None,
    *,
    before: Turns | None = None,
    label: Label = concept_of,
    kept: RecordLog | None = None,
) -> Phases:
    """Find when the replies of a model turn to safety, and what brings it about.

    `before` are the turns of the model's original (`turns_of`); `label` labels segments; `kept` holds what an interrupted study
    has left. Raises InputError for a layer out of range and for what the model cannot read.

    Examples:
        >>> found = phases(live, load_phrases("builtin:phrases-tiny").first(24), load_forms().choose(["question", "reply-open"]), quick)
        >>> found.outcomes["question"].table["refuses"].count > 20
        True
    """
    asked = asked or Asked()
    turns = turns_of(live, phrases, forms, asked, label=label, kept=kept)
    rows = (
        rows_of(live, turns)
        if before is None
        else [*tagged(rows_of(live, before), "before"), *tagged(rows_of(live, turns), "after")]
    )
    return Phases(asked, turns, before, tuple(rows), notes_of(turns))


def rows_of(live: LiveModel, turns: Turns) -> list[dict[str, Any]]:
    """Return a row for each reply."""

    def decode(ids: list[int]) -> str:
        return str(live.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    return [row for side in (turns.harmful, turns.harmless) for one in side.values() for row in one.rows(decode)]


def tagged(rows: Sequence[Mapping[str, Any]], when: str) -> list[dict[str, Any]]:
    """Return rows that say whether they are of the model before or after an edit."""
    return [{**row, "when": when} for row in rows]


def notes_of(turns: Turns) -> tuple[str, ...]:
    """Return a line for each thing that a reader of the figures must know."""
    notes = []
    for name, one in turns.harmful.items():
        apart = sum(reply.cut.incoherent for reply in one.greedy)
        if 2 * apart > len(one.greedy):
            notes.append(
                f"form {name}: {apart} of {len(one.greedy)} replies fall apart; its other outcomes are of the rest"
            )
    return tuple(notes)


def layer_of(layer: Literal["auto"] | int, depth: int) -> int:
    """Return the layer that vectors are made and added at. Raises InputError for one to which nothing can be added."""
    if layer == "auto":
        return max(1, round(LAYER * depth))
    if not 1 <= layer < depth:
        raise InputError(f"--layer {layer} is out of range; this model has layers 1 to {depth - 1}")
    return layer


def vectors_to_save(found: Phases) -> dict[str, Tensor]:
    """Return the vectors by the names that they are saved under."""
    return {}
