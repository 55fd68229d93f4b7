"""`abliterate positions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from rich.console import Group, RenderableType

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.studies import closing, plain_table, study_json, verdict_table
from abliterate.pipeline.study_options import STUDY_FLAGS, StudyOptions
from abliterate.studies.positions.options import PositionsOptions

if TYPE_CHECKING:
    from abliterate.commands.positions import PositionsStudy
    from abliterate.evaluation.statistics import Mean
    from abliterate.studies.positions.edits import Edits
    from abliterate.studies.positions.run import Positions


@verb("study", "abliterate positions org/model --quick", "abliterate positions org/model --out ./study")
def positions(
    options: Annotated[StudyOptions, flags(*STUDY_FLAGS)],
    positions_options: PositionsOptions,
    as_json: AsJson = False,
) -> None:
    """Find where refusal is represented: a vector for each form of a prompt and each location of the reply, and their effects."""
    from abliterate.commands.positions import positions

    one = positions(options, positions_options, progress())
    show(found(one), study_json(one.record, one.path), as_json)


def found(one: PositionsStudy) -> RenderableType:
    """Return where replies begin to refuse, which vectors there are, what they do, and what follows."""
    parts: list[RenderableType] = [starts(one.found), vectors(one.found)]
    if one.found.swept:
        parts.append(effects(one.found))
    if one.found.edits:
        parts.append(edits(one.found.edits))
    return Group(*parts, verdict_table(one.record.verdicts), *closing(one.record, one.path))


def starts(found: Positions) -> RenderableType:
    """Return from which location each form is refused, and how many harmless phrases are anywhere."""
    from abliterate.studies.positions.method import LOCATIONS
    from abliterate.studies.positions.record import from_first

    rows = []
    for name, one in found.heard.items():
        counts = [str(one.starts.count(location)) for location in (*LOCATIONS, None)]
        low, high = from_first(one).interval
        harmless = [case.greedy for case in one.harmless if case.greedy]
        above = f"{sum(reply.start is not None for reply in harmless)}/{len(harmless)}"
        rows.append((name, one.form.where, one.form.sentence, *counts, f"[{low:.0%}, {high:.0%}]", above))
    head = ("form", "where", "sentence", "from 1", "2", "3", "never", "1, 95%", "harmless")
    return plain_table(head, rows)


def vectors(found: Positions) -> RenderableType:
    """Return which vectors of refused against answered there are, and why others are not."""
    from abliterate.studies.positions.cells import REFUSED

    rows = []
    for cell in found.cells.values():
        if cell.kind == REFUSED:
            trust = reliability_of(found, cell.name)
            made = f"{sum(cell.labels):.3g} refused, {len(cell.labels) - sum(cell.labels):.3g} answered"
            rows.append((cell.name, cell.empty or made, "" if cell.empty else trust))
    return plain_table(("vector", "made of", "reliability"), rows)


def reliability_of(found: Positions, name: str) -> str:
    """Return the reliability of a vector at the study's layer, nothing where there are no two vectors to compare."""
    similar = found.similar.get(found.layer)
    return f"{similar.reliabilities[name]:.2f}" if similar and name in similar.reliabilities else ""


def effects(found: Positions) -> RenderableType:
    """Return what each vector does, and on which forms."""
    from abliterate.studies.positions.method import FLIPPED, NONE, ONE_SIDED, ROBUST, UNMEASURED

    shown = (ROBUST, ONE_SIDED, FLIPPED, NONE, UNMEASURED)
    rows = []
    for name, one in found.swept.items():
        forms = (", ".join(form for form, own in one.verdicts.items() if own == verdict) for verdict in shown)
        rows.append((name, str(one.layer), f"{one.length:.3g}", *forms))
    return plain_table(("vector", "layer", "length", *(f"{verdict} on" for verdict in shown)), rows)


def edits(found: Edits) -> RenderableType:
    """Return what editing along each vector leaves of the refusals of each form, and what it does to harmless prompts."""
    forms = list(found.rows[0].refused)
    rows = []
    for one in (*found.rows, *found.random):
        left = [f"{sum(own)}/{len(own)}" for own in one.refused.values()]
        apart = str(sum(one.incoherent.values()))
        layer = "" if one.layer is None else str(one.layer)
        rows.append(
            (
                one.name,
                layer,
                *left,
                f"{one.left.count}/{one.left.total}",
                apart,
                *map(nats, (one.kl, one.kl_elsewhere)),
            )
        )
    head = (
        "edited along",
        "layer",
        *(f"left: {form}" for form in forms),
        "left",
        "incoherent",
        "KL",
        "KL, other forms",
    )
    return plain_table(head, rows)


def nats(one: Mean) -> str:
    """Return a mean divergence, nothing where there are no prompts."""
    return f"{one.value:.3f}" if one.values else ""
