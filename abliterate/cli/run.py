"""`abliterate run`, the verb of a command that begins with a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson
from abliterate.cli.figures import mean, proof_line, rate, shown
from abliterate.cli.next_steps import say_next
from abliterate.cli.terminal import note
from abliterate.errors import InputError
from abliterate.evaluation.figure_names import (
    KL_LAST_TOKEN,
    KL_OVER_REPLIES,
    KL_OVER_THOUGHTS,
    MODES_REFUSED,
    WHERE_ANSWERED,
    behaviour_of,
)
from abliterate.pipeline.options import Options
from abliterate.records.option import declarations, flag_of
from abliterate.training.harden_options import HardenOptions

if TYPE_CHECKING:
    from abliterate.commands.harden import Hardened

if TYPE_CHECKING:
    from abliterate.evaluation.divergence import Divergence
    from abliterate.evaluation.observation import Reply
    from abliterate.evaluation.thinking import Thinking
    from abliterate.pipeline.run import Result
    from abliterate.records.manifest import Measured
    from abliterate.search.stages import SearchResult


@verb(
    "edit",
    "abliterate Qwen/Qwen3-4B-Instruct-2507 --out ./edited",
    "abliterate Qwen/Qwen3-4B-Instruct-2507 --mode calm --max-kl 0.01 --push me/calmed",
)
def run(
    options: Options,
    harden_options: HardenOptions | None,
    push: Annotated[
        str | None,
        typer.Option(
            help="Also push the result to this Hub repository (private).", rich_help_panel="hub", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find, edit, prove, measure: the default when the first argument is a model."""
    if options.mode == "harden":
        return harden(options, harden_options or HardenOptions(), push, as_json)
    if harden_options is not None:
        known = [flag_of(name, one) for name, one in declarations(HardenOptions).items() if one.offered]
        raise InputError(f"{', '.join(known)}: are for --mode harden; leave them out")
    from abliterate.commands.export import save_others
    from abliterate.commands.run import run

    one = run(options, push, progress())
    if one is None:
        return
    show(result(one), result_json(one), as_json)
    for other in save_others(options, progress()):
        note(f"also written: {other.out}")
    if push:
        publish(options.out, push)
    say_next(options.out, as_json, pushed=push is not None)


def harden(options: Options, harden_options: HardenOptions, push: str | None, as_json: bool) -> None:
    """Train a LoRA under random ablation of the direction, so that refusal survives the edit; measure it before and after."""
    from abliterate.commands.harden import harden_model
    from abliterate.hub.push import check_push

    if push:
        check_push(push)
    one = harden_model(options, harden_options, progress())
    show(hardened(one), hardened_json(one), as_json)
    if push:
        publish(options.out, push)
    say_next(options.out, as_json, pushed=push is not None)


def publish(folder: Path, repository: str) -> None:
    """Push the result, and say where it is."""
    from abliterate.commands.push import push

    note(f"pushed to {push(folder, repository, progress=progress())}")


def result(one: Result, kept: bool = True) -> RenderableType:
    """Return the table of a whole run, and a reply before and after; `kept` says whether the checkpoint stays."""
    measured = one.measured
    table = Table("", "original", "edited", title="abliterate", title_justify="left")
    assert measured.original
    assert measured.edited
    assert measured.divergence
    assert measured.selection
    before, after, divergence = measured.original, measured.edited, measured.divergence
    table.add_row("refusals, harmful", rate(before.harmful_refusals), rate(after.harmful_refusals))
    table.add_row("refusals, harmless", rate(before.harmless_refusals), rate(after.harmless_refusals))
    for name, other in after.other_refusals.items():
        table.add_row(f"refusals, {name}", rate(before.other_refusals[name]), rate(other))
    divergence_rows(table, divergence)
    thinking_rows(table, measured.thinking)
    chosen = measured.selection.chosen
    recipe = one.manifest["recipe"]
    facts = Table.grid(padding=(0, 2))
    if (target := behaviour_of(one.manifest)) is not None:
        facts.add_row("refusals are", f"replies that show {target}")
    facts.add_row("layer, position", f"{chosen.layer}, {chosen.position}  {scores(measured)}")
    if (form := one.manifest["direction"].get("form")) is not None:
        facts.add_row(
            "direction", Text(f"of matched phrases in the form {form}, place {one.manifest['direction']['place']}")
        )
    if "added" in recipe:
        best = measured.trials[0]
        facts.add_row(
            "added",
            f"{best.strength:g} times the difference in means, {recipe['added']:.3g} along {recipe['direction']}, at every "
            f"token (on the select split: {best.refused} of {best.prompts} replies refuse, harmful and harmless)",
        )
    if measured.search:
        facts.add_row("search", search_line(measured.search))
        facts.add_row("another point", Text(f"abliterate pick {one.out} --max-kl KL --out DIR"))
    adapter = one.manifest["form"] == "adapter"
    tensors = "exact factors" if adapter else f"{len(measured.tensors)} tensors as planned, all others bit for bit"
    facts.add_row("proof", f"{tensors}; {proof_line(measured.proof)}")
    facts.add_row("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.seconds.items()))
    facts.add_row(one.manifest["form"], Text(str(one.out) if kept else "thrown away; keep it with --out DIR"))
    notes = [Text(f"note: {note}", style="yellow") for note in one.notes]
    side = "harmless" if "added" in recipe else "look_alikes" if after.look_alikes else "harmful"
    sides = getattr(before, side), getattr(after, side)
    return Group(table, facts, *notes, *example(*sides, refused="added" in recipe))


def divergence_rows(table: Table, divergence: Divergence) -> None:
    """Add KL(original || edited) on harmless prompts in each convention."""
    table.add_row(KL_LAST_TOKEN, "", mean(divergence.first_token))
    table.add_row(f"  {WHERE_ANSWERED}", "", mean(divergence.first_token_answered))
    table.add_row(KL_OVER_REPLIES, "", mean(divergence.over_replies))


def thinking_rows(table: Table, thinking: Thinking | None) -> None:
    """Add what a model that thinks declines with and without a thought."""
    if thinking is None:
        return
    for kind, before in thinking.original.items():
        after = thinking.edited[kind]
        for mode, title in MODES_REFUSED.items():
            table.add_row(f"{kind}, {title}", rate(getattr(before, mode)), rate(getattr(after, mode)))
    table.add_row(KL_OVER_THOUGHTS, "", mean(thinking.divergence))


def search_line(found: SearchResult) -> str:
    """Return what the search chose, and the whole front, on the select split."""
    points = [f"{point.rate:.0%} at {point.kl:.3g}" for point in found.front.best()]
    chosen, original = found.chosen, found.front.original
    kept = (
        f"; that should stay {original.kept} -> {chosen.kept} of {chosen.kept_prompts}" if chosen.kept_prompts else ""
    )
    judged = f" (counted by {found.judge})" if found.judge else ""
    return (
        f"refusals {original.refusals} -> {chosen.refusals} of {chosen.prompts}{kept}{judged}, KL {chosen.kl:.3g} on the select split; "
        f"front: {', '.join(points)}; {found.token_count.forward} tokens forward, {found.token_count.backward} back"
    )


def scores(measured: Measured) -> str:
    """Return the scores of the chosen candidate on the select split."""
    assert measured.selection
    chosen = measured.selection.chosen
    found = (("bypass", chosen.bypass, 2), ("induce", chosen.induce, 2), ("KL", chosen.kl, 3))
    shown = [f"{name} {value:.{digits}f}" for name, value, digits in found if value is not None]
    first = measured.selection.first
    where = "the select split" if first is None else f"{first} prompts a side of the select split"
    return f"(on {where}: {', '.join(shown)})"


def example(before: Sequence[Reply], after: Sequence[Reply], refused: bool) -> list[RenderableType]:
    """Return one prompt with the replies before and after: the first that came to be `refused`, or not to be."""
    pairs = list(zip(before, after, strict=True))
    changed = [(old, new) for old, new in pairs if new.refused == refused != old.refused] or pairs
    old, new = changed[0]
    table = Table.grid(padding=(0, 2))
    for name, text in (("prompt", old.prompt), ("before", shown(old)), ("after", shown(new))):
        table.add_row(Text(name, style="bold"), Text(text))
    return [Text(), table]


def result_json(one: Result) -> dict[str, Any]:
    """Return a run as one JSON object: the manifest, the seconds, the candidates, every report reply."""
    from abliterate.records.observations import reply_records

    measured = one.measured
    assert measured.selection
    assert measured.original
    assert measured.edited
    return {
        "out": str(one.out),
        "seconds": one.seconds,
        "notes": list(one.notes),
        "candidates": [vars(candidate) for candidate in measured.selection.candidates],
        "replies": {"original": reply_records(measured.original), "edited": reply_records(measured.edited)},
        "manifest": one.manifest,
    }


def hardened(one: Hardened) -> RenderableType:
    """Return refusals as it is and under the edit, before and after."""
    from abliterate.records.training_card import unchanged_text

    before, after = one.result.before, one.result.after
    table = Table("refusals", "before", "hardened", title="harden", title_justify="left")
    table.add_row("harmful", rate(before.harmful), rate(after.harmful))
    table.add_row("harmful, edited", rate(before.edited), rate(after.edited))
    table.add_row("harmless", rate(before.harmless), rate(after.harmless))
    table.add_row("harmless, edited", rate(before.edited_harmless), rate(after.edited_harmless))
    said = f"the edit finds its direction anew each time; harmless replies that are the same: {rate(after.same)}"
    unchanged = unchanged_text({"kind": "hardened", **one.result.to_json()})
    notes = [Text(unchanged, style="yellow")] if unchanged else []
    return Group(table, Text.from_markup(said), *notes, Text(f"adapter  {one.out}"))


def hardened_json(one: Hardened) -> dict[str, Any]:
    """Return settings and figures as JSON."""
    return {"out": str(one.out), **one.result.to_json()}
