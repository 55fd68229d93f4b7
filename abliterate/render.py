"""What the command shows: results as rich tables, and as the one JSON object of `--json`. Nothing is printed here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from transformers import __version__ as transformers_version

from abliterate.architecture import Writer
from abliterate.census import Entry, Status
from abliterate.evaluation.divergence import Divergence
from abliterate.evaluation.observation import Observation, Reply
from abliterate.evaluation.statistics import Mean, Rate
from abliterate.outputs.manifest import Measured
from abliterate.pipeline import Result
from abliterate.refusals import visible_reply
from abliterate.search.stages import Found
from abliterate.verbs import Applied, Evaluated, Inspection
from abliterate.verify import StreamReport


def rate(one: Rate) -> str:
    """Return a rate as `3/65 = 5% [2, 13]`."""
    low, high = one.interval
    return f"{one.count}/{one.total} = {one.value:.0%} \\[{low:.0%}, {high:.0%}]"


def mean(one: Mean) -> str:
    """Return a divergence as `0.061 [0.043, 0.082] nats`."""
    low, high = one.interval
    return f"{one.value:.3f} \\[{low:.3f}, {high:.3f}] nats"


def size(count: int | float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def proof_line(proof: StreamReport) -> str:
    """Return the proof on the stream in one sentence."""
    if not proof.holds:
        return f"NOT PROVED: {proof.largest:.1e} of the stream at its worst layer, {proof.limit:.0e} allowed"
    if proof.kind == "silence":
        return (
            f"silent along the direction at every layer: at most {proof.largest:.1e} of the stream "
            f"({proof.before:.1e} before, {proof.limit:.0e} allowed)"
        )
    return f"equals the hook form at every layer: {proof.largest:.1e} of the stream ({proof.limit:.0e} allowed)"


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
    facts = Table.grid(padding=(0, 2))
    facts.add_row("layer, position", f"{chosen.layer}, {chosen.position}  {scores(measured)}")
    if measured.search:
        facts.add_row("search", search_line(measured.search))
    facts.add_row(
        "proof", f"{len(measured.tensors)} tensors as planned, all others bit for bit; {proof_line(measured.proof)}"
    )
    facts.add_row("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.seconds.items()))
    facts.add_row("checkpoint", Text(str(one.out) if kept else "thrown away; keep it with --out DIR"))
    notes = [Text(f"note: {note}", style="yellow") for note in one.notes]
    return Group(table, facts, *notes, *example(before, after))


def divergence_rows(table: Table, divergence: Divergence) -> None:
    """Add KL(original || edited) on harmless prompts in each convention."""
    table.add_row("KL, first token", "", mean(divergence.first_token))
    table.add_row("  where answered", "", mean(divergence.first_token_answered))
    table.add_row("KL, over replies", "", mean(divergence.over_replies))


def search_line(found: Found) -> str:
    """Return what the search chose, and the whole front, on the select split."""
    points = [f"{point.rate:.0%} at {point.kl:.3g}" for point in found.front.best()]
    chosen, original = found.chosen, found.front.original
    return (
        f"refusals {original.refusals} -> {chosen.refusals} of {chosen.prompts}, KL {chosen.kl:.3g} on the select split; "
        f"front: {', '.join(points)}; {found.spent.forward} tokens forward, {found.spent.backward} back"
    )


def scores(measured: Measured) -> str:
    """Return the scores of the chosen candidate on the select split."""
    assert measured.selection
    chosen = measured.selection.chosen
    return f"(on the select split: bypass {chosen.bypass:.2f}, induce {chosen.induce:.2f}, KL {chosen.kl:.3f})"


def example(before: Observation, after: Observation) -> list[RenderableType]:
    """Return one harmful prompt with the replies before and after: the first whose refusal went away."""
    pairs = list(zip(before.harmful, after.harmful, strict=True))
    changed = [(old, new) for old, new in pairs if old.refused and not new.refused] or pairs
    old, new = changed[0]
    table = Table.grid(padding=(0, 2))
    for name, text in (("prompt", old.prompt), ("before", shown(old)), ("after", shown(new))):
        table.add_row(Text(name, style="bold"), Text(text))
    return [Text(), table]


def shown(reply: Reply) -> str:
    """Return a reply on one line, without thoughts."""
    return " ".join(visible_reply(reply.text).split()) or "(empty)"


def applied(one: Applied) -> RenderableType:
    """Return what the proof says of a written checkpoint."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("edited", f"{len(one.tensors)} tensors as planned")
    facts.add_row("untouched", f"{one.untouched} tensors, bit for bit")
    facts.add_row("proof", proof_line(one.proof))
    facts.add_row("checkpoint", Text(str(one.out)))
    return Group(facts, *(Text(f"note: {note}", style="yellow") for note in one.notes))


def evaluated(one: Evaluated) -> RenderableType:
    """Return the figures of a model, beside those of the one it is held against."""
    models = [one.model] if one.against is None else [one.against, one.model]
    names = ["model"] if one.against is None else ["against", "model"]
    table = Table("", *names)
    table.add_row("refusals, harmful", *(rate(each.harmful_refusals) for each in models))
    table.add_row("refusals, harmless", *(rate(each.harmless_refusals) for each in models))
    if one.divergence:
        divergence_rows(table, one.divergence)
    return table


def inspection(one: Inspection) -> RenderableType:
    """Return the writers table, the proof, sizes, and what a run will cost."""
    architecture = one.architecture
    table = Table("site", "layers", "module", "residual axis", "gains behind it")
    groups: dict[tuple[str, ...], list[int | None]] = {}
    for writer in architecture.writers:
        # The same module in every layer is one line.
        inside = f"{architecture.layers[writer.layer]}." if writer.layer is not None else ""
        parameters = ", ".join(f"{one.name} ({one.axis})" for one in writer.parameters)
        row = (writer.site, writer.module.removeprefix(inside), parameters, gains(writer))
        groups.setdefault(row, []).append(writer.layer)
    for (site, pattern, parameters, behind), layers in groups.items():
        table.add_row(site, "" if layers == [None] else f"{len(layers)}", Text(pattern), parameters, Text(behind))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("model", Text(f"{one.name} ({architecture.model_type})"))
    facts.add_row("proof", Text(clone_proof(one)))
    facts.add_row("residual stream", f"{architecture.depth} layers, d_model {architecture.d_model}")
    facts.add_row("layers", Text(f"{architecture.layers[0]} ... {architecture.layers[-1]}"))
    facts.add_row(
        "embeddings", "tied: the head is edited with the embedding" if architecture.tied else "not tied: the head stays"
    )
    if architecture.outside:
        facts.add_row(
            "left alone", Text(f"{', '.join(architecture.outside)}, and what they put in the place of tokens")
        )
    facts.add_row("parameters", f"{one.parameters:,}, of which the edit changes {one.edited_parameters:,}")
    facts.add_row("disk", f"{size(one.stored_bytes)} to write, as much to read")
    facts.add_row("memory", f"{size(one.stored_bytes)} of weights, one model at a time")
    facts.add_row(
        "work",
        f"at most {2 * one.layer_parameters / 1e9:.1f} GFLOP for each token of a prompt",
    )
    return Group(facts, table)


def gains(writer: Writer) -> str:
    """Return what stands between a writer and the stream."""
    steps = [
        (f"{gain.offset:g} + " if gain.offset else "")
        + (".".join(gain.parameter.rsplit(".", 2)[-2:]) if gain.parameter else "centring")
        + (f"[{gain.tap}]" if gain.tap is not None else "")
        + (", centred" if gain.centred and gain.parameter else "")
        for gain in writer.paths[0]
    ]
    return "; ".join(steps) + (f" and {len(writer.paths) - 1} more ways" if len(writer.paths) > 1 else "")


def clone_proof(one: Inspection) -> str:
    """Return the proof on the clone in one sentence."""
    if one.proved is None:
        return f"NOT PROVED, and refused without --allow-unproved: {one.architecture.problems[0]}"
    return (
        f"on a small clone, edited on disk: {one.proved.leak:.0e} of the stream left at every layer "
        f"({one.proved.before:.0e} before), hooks and weights agree to {one.proved.difference:.0e}"
    )


def architectures(entries: Sequence[Entry]) -> RenderableType:
    """Return the list of architectures, and below it the reasons why some are refused."""
    table = Table("model type", "status", "writers a layer", "gains", "experts", "left of the stream")
    reasons = Table.grid(padding=(0, 2))
    for entry in entries:
        proved = entry.status == "proved"
        table.add_row(
            entry.model_type,
            entry.status,
            str(entry.writers) if proved else "",
            "yes" if entry.gains else "",
            entry.experts,
            f"{entry.leak:.0e}" if entry.leak is not None else "",
            style="" if proved else "red" if entry.status == "refused" else "dim",
        )
        if entry.status == "refused":
            reasons.add_row(Text(entry.model_type, style="red"), Text(entry.reason))
    counts = Counter(entry.status for entry in entries)
    return Group(table, reasons, Text(", ".join(f"{count} {status}" for status, count in counts.items())))


def architectures_markdown(entries: Sequence[Entry]) -> str:
    """Return the list as README.md holds it: model types by what their layers hold, and why some are not supported."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        groups.setdefault((entry.status, summary(entry)), []).append(f"`{entry.model_type}`")
    order = get_args(Status)
    rows = sorted(groups.items(), key=lambda group: (order.index(group[0][0]), -len(group[1]), group[0][1]))
    lines = [f"transformers {transformers_version}. {counted('Causal language models', entries, True, order)}"]
    lines[0] += f" {counted('Models with images, by their text decoder', entries, False, order)}"
    lines += ["", "| | model types |", "|---|---|"]
    lines += [f"| {status}: {what} | {', '.join(names)} |" for (status, what), names in rows]
    return "\n".join(lines)


def summary(entry: Entry) -> str:
    """Return what an entry has in common with others: what its layers hold, or the reason without place and figures."""
    if entry.status == "proved":
        held = [f"{entry.experts} experts"] if entry.experts else []
        return ", ".join([*held, "gains behind writers"] if entry.gains else held) or "plain"
    reason = re.sub(r"^[\w.-]+: ", "", entry.reason)
    return re.split(r": \d| \(|; ", reason)[0]


def counted(title: str, entries: Sequence[Entry], causal: bool, order: Sequence[Status]) -> str:
    """Return how many of a mapping's types are proved, refused, no decoders."""
    counts = Counter(entry.status for entry in entries if entry.causal is causal)
    return f"{title}: {', '.join(f'{counts[status]} {status}' for status in order)}."


def architectures_json(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the list of architectures as JSON."""
    return {"transformers": transformers_version, "architectures": [asdict(entry) for entry in entries]}


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
        "replies": {"original": replies(measured.original), "edited": replies(measured.edited)},
        "manifest": one.manifest,
    }


def replies(one: Observation) -> dict[str, list[dict[str, Any]]]:
    """Return every report prompt with the reply and the verdict."""
    return {
        side: [{"prompt": reply.prompt, "reply": reply.text, "refused": reply.refused} for reply in given]
        for side, given in (("harmful", one.harmful), ("harmless", one.harmless))
    }


def applied_json(one: Applied) -> dict[str, Any]:
    """Return a proof as JSON."""
    tensors = [asdict(report) for report in one.tensors]
    return {
        "out": str(one.out),
        "edited": tensors,
        "untouched": one.untouched,
        "proof": one.proof.to_json(),
        "notes": list(one.notes),
    }


def evaluated_json(one: Evaluated) -> dict[str, Any]:
    """Return figures and replies as JSON."""
    return {
        "model": {**one.model.to_json(), "replies": replies(one.model)},
        "against": {**one.against.to_json(), "replies": replies(one.against)} if one.against else None,
        "kl": one.divergence.to_json() if one.divergence else None,
    }


def inspection_json(one: Inspection) -> dict[str, Any]:
    """Return writers and sizes as JSON."""
    architecture = one.architecture
    return {
        "model": one.name,
        "model_type": architecture.model_type,
        "layers": architecture.depth,
        "d_model": architecture.d_model,
        "tied": architecture.tied,
        "outside": list(architecture.outside),
        "proof": {name: getattr(one.proved, name) for name in ("before", "leak", "difference")} if one.proved else None,
        "problems": list(architecture.problems),
        "parameters": one.parameters,
        "edited_parameters": one.edited_parameters,
        "stored_bytes": one.stored_bytes,
        "writers": [
            {
                "module": writer.module,
                "site": writer.site,
                "layer": writer.layer,
                "parameters": [asdict(parameter) for parameter in writer.parameters],
                "paths": [[asdict(gain) for gain in path] for path in writer.paths],
            }
            for writer in architecture.writers
        ],
    }
