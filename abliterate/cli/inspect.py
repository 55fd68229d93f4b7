"""`abliterate inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from abliterate.cli.app import progress, show, verb
from abliterate.cli.declared import AsJson, flags
from abliterate.cli.figures import size
from abliterate.cli.studies import plain_table
from abliterate.pipeline.options import ModelOptions

if TYPE_CHECKING:
    from abliterate.architectures.architecture import Writer
    from abliterate.commands.inspect import Inspection


@verb("look", "abliterate inspect org/model", "abliterate inspect ./edited --words")
def inspect(
    options: Annotated[ModelOptions, flags("model", "offline", "trust_remote_code", "revision")],
    words: Annotated[
        bool, typer.Option("--words", help="Say instead in words what an edit removed, as its record holds it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the writers of a model and prove them on a small clone, its sizes, what a run will cost; loads no weights."""
    from abliterate.commands.inspect import inspect, words_of_edit

    if words:
        said = words_of_edit(Path(options.model))
        return show(edit_words(said), dict(said), as_json)
    one = inspect(options, progress())
    show(inspection(one), inspection_json(one), as_json)


def edit_words(said: Mapping[str, Any]) -> RenderableType:
    """Return a table of the words along each direction, and of those against it."""
    rows = [(", ".join(one["along"]), ", ".join(one["against"])) for one in said["directions"]]
    return plain_table(("along what was removed", "against it"), rows)


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
    facts.add_row("--mode induce", Text(addition(one)))
    facts.add_row("parameters", f"{one.parameters:,}, of which the edit changes {one.edited_parameters:,}")
    facts.add_row("disk", f"{size(one.stored_bytes)} to write, as much to read")
    facts.add_row("memory", f"{size(one.stored_bytes)} of weights, one model at a time")
    facts.add_row(
        "work",
        f"at most {2 * one.layer_parameters / 1e9:.1f} GFLOP for each token of a prompt",
    )
    return Group(facts, table)


def addition(one: Inspection) -> str:
    """Return what would hold an addition to the stream."""
    if not one.bias_sites:
        return "refused: nothing holds an addition exactly; a control vector or hooks make it"
    layer, bias_site = next(iter(one.bias_sites.items()))
    where = f"{bias_site.writer.module} (for resid[{layer}], so on to resid[{max(one.bias_sites)}])"
    return f"by the bias of {where}" if bias_site.bias else f"by an adapter on {where}, which has no bias"


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
        "induce": [
            {"layer": layer, "module": bias_site.writer.module, "bias": bias_site.bias.name if bias_site.bias else None}
            for layer, bias_site in one.bias_sites.items()
        ],
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
