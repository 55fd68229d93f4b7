"""`abliterate phases`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from rich.console import Group, RenderableType

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.studies import closing, plain_table, study_json, verdict_table
from abliterate.pipeline.study_options import STUDY_FLAGS, StudyOptions
from abliterate.studies.phases.options import PhasesOptions

if TYPE_CHECKING:
    from abliterate.commands.phases import PhasesStudy
    from abliterate.studies.phases.outcomes import Outcomes
    from abliterate.studies.phases.run import Phases


@verb("study", "abliterate phases org/model --quick", "abliterate phases ./edited --against org/model --out ./study")
def phases(
    options: Annotated[StudyOptions, flags(*STUDY_FLAGS)],
    phases_options: PhasesOptions,
    as_json: AsJson = False,
) -> None:
    """Find when replies turn to safety: their phases, what becomes of begun sentences, and what brings a turn about."""
    from abliterate.commands.phases import phases

    one = phases(options, phases_options, progress())
    show(found(one), study_json(one.record, one.path), as_json)


def found(one: PhasesStudy) -> RenderableType:
    """Return what becomes of prompts, when safety begins, and what follows."""
    parts: list[RenderableType] = [complete(one.found), incomplete(one.found), onset(one.found)]
    if one.found.effects and one.found.effects.rows:
        parts.append(effects(one.found))
    return Group(*parts, verdict_table(one.record.verdicts), *closing(one.record, one.path))


def complete(found: Phases) -> RenderableType:
    """Return how many complete prompts are refused, with harmless ones beside."""
    rows = [
        (one.form.name, one.form.where, *counts(one), harmless(found, one.form.name))
        for one in found.outcomes.values()
        if one.form.sentence == "complete"
    ]
    return plain_table(("complete", "where", "refuses", "answers", "incoherent", "harmless: safety"), rows)


def incomplete(found: Phases) -> RenderableType:
    """Return what becomes of begun sentences, with harmless ones beside."""
    rows = [
        (one.form.name, one.form.where, *counts(one), harmless(found, one.form.name))
        for one in found.outcomes.values()
        if one.form.sentence == "incomplete"
    ]
    head = (
        "goes on, turns", "goes on", "evades, turns", "evades", "neutral, turns", "neutral", "incoherent",
        "harmless: safety",
    )  # fmt: skip
    return plain_table(("incomplete", "where", *head), rows)


def counts(one: Outcomes) -> list[str]:
    """Return how many phrases came to each outcome."""
    return [f"{rate.count}/{rate.total}" for rate in one.table.values()]


def harmless(found: Phases, name: str) -> str:
    """Return how many harmless phrases have safety anywhere."""
    safe = found.turns.harmless_outcomes[name].safe
    return f"{sum(safe)}/{len(safe)}"


def onset(found: Phases) -> RenderableType:
    """Return which share has entered safety by some tokens of the reply."""
    from abliterate.studies.phases.onset import share_entered

    tokens = (0, 8, 16, 32, 64, found.asked.tokens - 1)
    rows = []
    for name in found.outcomes:
        onsets = found.turns.onsets(name)
        rows.append(
            (name, str(len(onsets)), *(f"{share_entered(onsets, token):.0%}" if onsets else "" for token in tokens))
        )
    return plain_table(("safety by token", "replies", *map(str, tokens)), rows)


def effects(found: Phases) -> RenderableType:
    """Return what each vector brings about at each strength."""
    assert found.effects is not None
    rows = []
    for one in found.effects.rows:
        safe = "" if one.harmless is None else f"{one.harmless.count}/{one.harmless.total}"
        kl = "" if one.divergence is None else f"{one.divergence:.2g}"
        brought = f"{one.rate.count}/{one.rate.total}"
        rows.append((one.kind, one.vector, f"{one.alpha:g}", one.split, brought, str(one.incoherent.count), safe, kl))
    return plain_table(
        ("vector at work", "way", "alpha", "part", "brought about", "incoherent", "harmless: safety", "KL"), rows
    )
