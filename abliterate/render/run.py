"""What a whole run shows: figures before and after, the choice, the proof, a reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.evaluation.divergence import Divergence
from abliterate.evaluation.observation import Reply
from abliterate.pipeline.run import Result
from abliterate.records.manifest import Measured
from abliterate.records.observations import reply_records
from abliterate.render.figures import mean, proof_line, rate, shown
from abliterate.search.stages import SearchResult


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
    divergence_rows(table, divergence)
    chosen = measured.selection.chosen
    recipe = one.manifest["recipe"]
    facts = Table.grid(padding=(0, 2))
    facts.add_row("layer, position", f"{chosen.layer}, {chosen.position}  {scores(measured)}")
    if "added" in recipe:
        best = measured.trials[0]
        facts.add_row(
            "added",
            f"{best.strength:g} times the difference in means, {recipe['added']:.3g} along {recipe['direction']}, at every "
            f"token (on the select split: {best.refused} of {best.prompts} replies refuse, harmful and harmless)",
        )
    if measured.search:
        facts.add_row("search", search_line(measured.search))
    adapter = one.manifest["form"] == "adapter"
    tensors = "exact factors" if adapter else f"{len(measured.tensors)} tensors as planned, all others bit for bit"
    facts.add_row("proof", f"{tensors}; {proof_line(measured.proof)}")
    facts.add_row("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.seconds.items()))
    facts.add_row(one.manifest["form"], Text(str(one.out) if kept else "thrown away; keep it with --out DIR"))
    notes = [Text(f"note: {note}", style="yellow") for note in one.notes]
    sides = (before.harmless, after.harmless) if "added" in recipe else (before.harmful, after.harmful)
    return Group(table, facts, *notes, *example(*sides, refused="added" in recipe))


def divergence_rows(table: Table, divergence: Divergence) -> None:
    """Add KL(original || edited) on harmless prompts in each convention."""
    table.add_row("KL, last prompt token", "", mean(divergence.first_token))
    table.add_row("  where answered", "", mean(divergence.first_token_answered))
    table.add_row("KL, over the original's replies", "", mean(divergence.over_replies))


def search_line(found: SearchResult) -> str:
    """Return what the search chose, and the whole front, on the select split."""
    points = [f"{point.rate:.0%} at {point.kl:.3g}" for point in found.front.best()]
    chosen, original = found.chosen, found.front.original
    return (
        f"refusals {original.refusals} -> {chosen.refusals} of {chosen.prompts}, KL {chosen.kl:.3g} on the select split; "
        f"front: {', '.join(points)}; {found.token_count.forward} tokens forward, {found.token_count.backward} back"
    )


def scores(measured: Measured) -> str:
    """Return the scores of the chosen candidate on the select split."""
    assert measured.selection
    chosen = measured.selection.chosen
    found = (("bypass", chosen.bypass, 2), ("induce", chosen.induce, 2), ("KL", chosen.kl, 3))
    shown = [f"{name} {value:.{digits}f}" for name, value, digits in found if value is not None]
    return f"(on the select split: {', '.join(shown)})"


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
