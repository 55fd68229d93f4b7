"""When replies turn to safety: replies in phases, what becomes of prompts, when safety begins, and what brings it about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.evaluation.judges.judge import Judge
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Form, Forms
from abliterate.prompts.phrases import Phrases
from abliterate.replies.concepts import CONTENT, concept_of
from abliterate.storage.record_log import RecordLog
from abliterate.studies.common import CONTROLS
from abliterate.studies.layers import layer_of
from abliterate.studies.phases.activation import TOKENS, WHAT, Acting, Effects, effects_of
from abliterate.studies.phases.aligned import Aligned, aligned, components, pairs_of, turn_of
from abliterate.studies.phases.detection import HARM, Detected, Material, detect
from abliterate.studies.phases.examples import ByExamples, by_examples
from abliterate.studies.phases.judged import ByJudge, by_judge
from abliterate.studies.phases.labels import Label
from abliterate.studies.phases.method import SETTLE
from abliterate.studies.phases.onset import CurvePoint, Onset, curve_of, log_rank_p
from abliterate.studies.phases.options import ALPHAS, WAYS, Way
from abliterate.studies.phases.outcomes import Edited, Outcomes, edited, outcomes_of
from abliterate.studies.phases.told import Listening, Told, chosen_form, listen
from abliterate.studies.replies import decoder

REPLY_TOKENS = 128
ENOUGH, QUICK_ENOUGH = 16, 3
QUICK_CONTROLS = 2

TURNS = 5
"""Replies that must turn before the component around turns is looked at."""


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
    detected: Detected | None
    effects: Effects | None
    examples: ByExamples | None
    alignment: Mapping[str, Aligned]
    replies: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    judged: ByJudge | None = None

    @property
    def outcomes(self) -> dict[str, Outcomes]:
        """Return the outcomes of harmful phrases by form."""
        return self.turns.outcomes

    @property
    def vectors(self) -> dict[str, Float[Tensor, " d_model"]]:
        """Return the safety vectors by the way that they were found, at one length."""
        return dict(self.detected.at_equal_length()) if self.detected else {}

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
    *,
    tokens: int = REPLY_TOKENS,
    samples: int = 4,
    settle: int = SETTLE,
    layer: Literal["auto"] | int = "auto",
    ways: tuple[Way, ...] = WAYS,
    alphas: tuple[float, ...] = ALPHAS,
    seed: int = 0,
    quick: bool = False,
    before: Turns | None = None,
    label: Label = concept_of,
    judge: Judge | None = None,
    kept: RecordLog | None = None,
) -> Phases:
    """Find when the replies of a model turn to safety, and what brings it about.

    `settle` is the number of segments after a turn in which what was left must not come back; `ways` are those to a safety
    vector, each tried at `alphas` times the length of the difference in means; `before` are the turns of the model's original
    (`turns_of`); `label` labels segments, `judge` does so again, beside it; `kept` holds what an interrupted study has left; `quick` asks for fewer cases and
    controls, for trying. Raises InputError for a layer out of range and for what the model cannot read.

    Examples:
        >>> few, forms = load_phrases("builtin:phrases-tiny").first(24), load_forms().choose(["question"])
        >>> live = LiveModel.of(model, tokenizer)
        >>> found = phases(live, few, forms, tokens=16, samples=0, ways=("dim",), quick=True)
        >>> found.outcomes["question"].table["refuses"].count > 20
        True
    """
    asked = Asked(tokens, samples, settle, layer, ways, alphas, seed, quick)
    return study(live, phrases, forms, asked, before=before, label=label, judge=judge, kept=kept)


def study(
    live: LiveModel,
    phrases: Phrases,
    forms: Forms,
    asked: Asked,
    *,
    before: Turns | None = None,
    label: Label = concept_of,
    judge: Judge | None = None,
    kept: RecordLog | None = None,
) -> Phases:
    """Do `phases` for what is asked as one value."""
    layer = layer_of(asked.layer, live.architecture.depth)
    turns = turns_of(live, phrases, forms, asked, label=label, kept=kept)
    rows = rows_of(live, turns)
    if before is not None:
        rows = [*tagged(rows_of(live, before), "before"), *tagged(rows, "after")]
    chosen, controls = Chosen.of(turns, forms), QUICK_CONTROLS if asked.quick else CONTROLS
    detected, effects = None, None
    if chosen.complete is not None and asked.ways:
        material = Material(
            chosen.complete, turns.harmless[chosen.complete.form.name], chosen.begun, asked.enough, asked.seed
        )
        detected = detect(live, material, layer, asked.ways, controls=controls, kept=kept)
        acting = Acting(live, layer, min(TOKENS, asked.tokens), asked.settle, label, kept)
        calm = None if chosen.begun is None else turns.harmless[chosen.begun.form.name]
        alphas = (1.0,) if asked.quick else asked.alphas
        effects = effects_of(
            acting,
            detected.at_equal_length(),
            chosen.complete,
            chosen.begun,
            calm,
            alphas=alphas,
            controls=controls,
            seed=asked.seed,
        )
    examples = by_examples(live, *chosen.both(turns), layer_of("auto", live.architecture.depth), asked.seed)
    third = None
    if judge is not None:
        third = by_judge(judge, chosen.both(turns)[0], examples, progress=live.progress, seed=asked.seed)
    along = alignment_of(live, turns, detected, asked.seed)
    notes = (*notes_of(turns), *found_notes(detected, effects, examples))
    return Phases(asked, turns, before, detected, effects, examples, along, tuple(rows), notes, third)


@dataclass(frozen=True)
class Chosen:
    """The forms that vectors are made and tried on: complete prompts, and a begun sentence that most phrases go on with."""

    complete: Told | None
    begun: Told | None

    @classmethod
    def of(cls, turns: Turns, forms: Forms) -> Chosen:
        """Return the first complete form in a user's turn, and the begun form under a template that goes on most."""
        complete = detection_form(forms)
        begun = [turns.harmful[form.name] for form in forms if form.sentence == "incomplete"]
        templated = [one for one in begun if one.form.where != "raw"] or begun

        def going_on(told: Told) -> int:
            return sum(reply.outcome is not None and reply.outcome.fill == CONTENT for reply in told.greedy)

        return cls(turns.harmful[complete.name] if complete else None, max(templated, key=going_on, default=None))

    def both(self, turns: Turns) -> tuple[list[Told], list[Told]]:
        """Return both forms, of harmful and of harmless phrases."""
        own = [one for one in (self.complete, self.begun) if one is not None]
        return own, [turns.harmless[one.form.name] for one in own]


def alignment_of(live: LiveModel, turns: Turns, detected: Detected | None, seed: int) -> dict[str, Aligned]:
    """Return the component along each vector around the turns of all begun forms; nothing where too few replies turn."""
    pairs = [
        pair
        for told in turns.harmful.values()
        if told.form.sentence == "incomplete"
        for pair in pairs_of(told.unit.texts, told.greedy)
    ]
    replies = [reply for _, reply in pairs]
    if detected is None or not detected.vectors or sum(turn_of(reply) is not None for reply in replies) < TURNS:
        return {}
    values = components(live, pairs, torch.stack([*detected.vectors.values()]), detected.layer)
    found: dict[str, Aligned] = {}
    for place, way in enumerate(detected.vectors):
        one = aligned(replies, [own[place] for own in values], seed)
        found |= {way: one} if one else {}
    return found


def found_notes(detected: Detected | None, effects: Effects | None, examples: ByExamples | None) -> tuple[str, ...]:
    """Return a line for each part of the study that could not be made."""
    notes = []
    if detected is None:
        notes.append("no complete form was asked, so that there are no safety vectors; ask one with --only")
    else:
        notes += [f"no vector by {way}: {why}" for way, why in detected.missing.items()]
        notes += detected.stand_ins
        if detected.difference == HARM:
            notes.append(
                f"{detected.about['refused']:.3g} of {detected.about['prompts']} train prompts are refused: too few of one side for "
                "refused minus answered; the difference in means is of harmful minus harmless prompts"
            )
    if effects is not None:
        notes += [
            f"{kind} ({WHAT[kind]}): {count} prompts to begin with, too few" for kind, count in effects.too_few.items()
        ]
    if examples is None:
        notes.append(
            "no labeller by examples: the model has too few refusals or answers of its own in the forms that it needs"
        )
    return tuple(notes)


def rows_of(live: LiveModel, turns: Turns) -> list[dict[str, Any]]:
    """Return a row for each reply."""
    decode = decoder(live)
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
            empty = sum(not reply.cut.text.strip() for reply in one.greedy)
            notes.append(
                f"form {name}: {apart} of {len(one.greedy)} replies are incoherent, {empty} of them empty; claims are of the rest"
            )
    return tuple(notes)


def vectors_to_save(found: Phases) -> dict[str, Tensor]:
    """Return the vectors by the names that they are saved under, at their own lengths."""
    if found.detected is None:
        return {}
    form = detection_name(found.turns)
    return {f"{form}/1-{way}/resid.{found.detected.layer}": one for way, one in found.detected.vectors.items()}


def detection_name(turns: Turns) -> str:
    """Return the name of the form that vectors were made of."""
    complete = [one.form for one in turns.harmful.values() if one.form.sentence == "complete"]
    return next((form.name for form in complete if form.where == "user"), complete[0].name)
