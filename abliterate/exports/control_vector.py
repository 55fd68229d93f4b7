"""Directions as a control vector for llama.cpp: `llama-server -m MODEL.gguf --control-vector-scaled FILE:SCALE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig

from abliterate.directions.directions import Directions
from abliterate.errors import InputError
from abliterate.exports.forms import Export, Written
from abliterate.exports.gguf_names import gguf_file
from abliterate.projection import check_floats, check_vector

FIRST = 2
"""The first `resid[l]` that llama.cpp can add to: behind its second block."""


def export_form(export: Export) -> Written:
    """Write the differences in means, at the layer of the edit unless others are asked for."""
    vectors, layers, config = export.differences()
    write_control_vector(vectors, config, export.out, layers=layers, force=export.force)
    return Written()


def write_control_vector(
    directions: Directions | Mapping[int, Float[Tensor, " d_model"]],
    config: PretrainedConfig,
    out: Path,
    *,
    layers: Sequence[int] | None = None,
    position: int = -1,
    force: bool = False,
) -> tuple[int, ...]:
    """Write the vectors of `resid[l]` for `l` in `layers`, in float32; return these layers, in order.

    llama.cpp adds `SCALE * direction.N` behind block `N`, counted from 0, at every position: that is `resid[N + 1]`, so
    the vector of `resid[l]` is written as `direction.{l - 1}`. What `abliterate.added(model, vector, l)` does, the file
    does at scale 1, and -1 subtracts it. It has nothing for `N = 0`: `resid[0]` and `resid[1]` cannot be reached.

    `Directions` give their differences at `position`, in full length. All vectors of the file are added at once: give
    one layer to do as `added` does, or all of them (the default: all that there are and can be reached) to choose with
    `--control-vector-layer-range N N` later.

    Raises InputError for a layer that cannot be reached or has no direction, vectors of another width, zero or not finite, and
    an `out` that exists (unless `force`) or cannot be written.
    """
    text = config.get_text_config(decoder=True)
    vectors = chosen(directions, text.num_hidden_layers, layers, position)
    if not vectors:
        raise InputError("there is no vector to write; choose at least one layer")
    for layer, vector in vectors.items():
        check_vector_layer(layer, text.num_hidden_layers)
        check_floats(vector)
        if vector.shape != (text.hidden_size,):
            raise InputError(
                f"the vector of resid[{layer}] has shape {tuple(vector.shape)}, the model d_model {text.hidden_size}; "
                "it belongs to another model"
            )
        check_vector(vector)
    with gguf_file(out, "controlvector", force) as writer:
        writer.add_string("controlvector.model_hint", text.model_type)
        writer.add_uint32("controlvector.layer_count", len(vectors))
        for layer, vector in vectors.items():
            writer.add_tensor(f"direction.{layer - 1}", vector.detach().cpu().float().contiguous().numpy())
    return tuple(vectors)


def chosen(
    directions: Directions | Mapping[int, Float[Tensor, " d_model"]],
    depth: int,
    layers: Sequence[int] | None,
    position: int,
) -> dict[int, Float[Tensor, " d_model"]]:
    """Return the vectors to write by layer, in order. Raises InputError for a layer that has none."""
    if isinstance(directions, Directions):
        wanted = range(FIRST, depth + 1) if layers is None else sorted(layers)
        if layers is None:
            wanted = [layer for layer in wanted if directions.exists(layer, position)]
        for layer in wanted:
            directions.at(layer, position)  # raises where harmful and harmless prompts do not differ
        return {layer: directions.difference(layer, position) for layer in wanted}
    missing = sorted(set(layers or ()) - set(directions))
    if missing:
        raise InputError(f"there is no vector for resid[{missing[0]}]; there are {', '.join(map(str, directions))}")
    return {layer: directions[layer] for layer in sorted(directions if layers is None else layers)}


def check_vector_layer(layer: int, depth: int) -> None:
    """Raise InputError for a layer that a control vector of llama.cpp cannot reach."""
    if not FIRST <= layer <= depth:
        raise InputError(
            f"resid[{layer}] cannot be reached by a control vector of llama.cpp, which adds from resid[{FIRST}] to "
            f"resid[{depth}]; choose among these layers"
        )
