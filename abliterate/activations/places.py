"""Capture of the residual stream at named places of texts: each text has its own, where `capture` counts from the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.activations.cache import ActivationCache, read_cached
from abliterate.activations.capture import keep_whole, merged, streams_once
from abliterate.architectures.architecture import Architecture
from abliterate.architectures.streams import resid_of
from abliterate.architectures.wrappers import unwrapped
from abliterate.errors import InputError
from abliterate.models.batches import Batch, PreparedPrompts, model_device, prepare_batches
from abliterate.models.forward import final_hidden, prefix_cache
from abliterate.models.limits import check_readable
from abliterate.models.live_model import LiveModel
from abliterate.parallel.processes import Processes
from abliterate.prompts.texts import Text
from abliterate.storage.record_log import RecordLog


@dataclass(frozen=True)
class PlacedActivations:
    """`resid[l]` of every text at named places, for some layers, in the model's dtype, on the CPU."""

    resid: Float[Tensor, "texts layers places d_model"]
    layers: tuple[int, ...]
    names: tuple[str, ...]

    def at(self, name: str, layer: int) -> Float[Tensor, "texts d_model"]:
        """Return one place at one layer. Raises InputError where it was not captured."""
        if name not in self.names:
            raise InputError(f"the place {name} was not captured; there are {', '.join(self.names)}")
        if layer not in self.layers:
            raise InputError(f"resid[{layer}] was not captured; there are {', '.join(map(str, self.layers))}")
        return self.resid[:, self.layers.index(layer), self.names.index(name)]

    def rows(self, places: Sequence[int]) -> PlacedActivations:
        """Return those of some of the texts."""
        return PlacedActivations(self.resid[list(places)], self.layers, self.names)

    def mean(self) -> Float[Tensor, "layers places d_model"]:
        """Return the mean over the texts, summed in float64."""
        total = torch.zeros(self.resid.shape[1:], dtype=torch.float64)
        for text in self.resid:
            total += text.cpu().double()
        return total / len(self.resid)


def capture_places(
    live: LiveModel,
    texts: Sequence[Text],
    names: Sequence[str],
    layers: Sequence[int] | None = None,
    *,
    cache: ActivationCache | None = None,
    processes: Processes | None = None,
    kept: RecordLog | None = None,
) -> PlacedActivations:
    """Run `texts` through a live model and return `resid[l]` at the places of those names, for `layers` (all by default).

    What is put around the model is seen through, and adapters and interventions inside of it take part. `processes` share
    the batches out, and all get the activations of one, bit for bit. `kept` holds batches that an interrupted run on the
    same weights has left, until the whole is in `cache`; neither may be given where an intervention is not part of its key.

    Raises InputError for a text without one of the places, a layer that is not there, texts that the model cannot read,
    and NaN or infinite activations, naming the text.
    """
    model, found = unwrapped(live.model), live.architecture
    chosen, places = chosen_layers(found, layers), places_of(texts, names)
    sequences = [text.tokens for text in texts]
    check_readable(model, [str(live.tokenizer.decode(list(tokens))) for tokens in sequences], sequences, 0)
    by = live.batch_size, model_device(model).type
    path = cache.path(sequences, [chosen, *places], model.dtype, *by) if cache else None
    group = processes or Processes()
    shape = (len(texts), len(chosen), len(names), found.d_model)
    stored = read_cached(path, shape, model.dtype) if path else None
    # All or none: one process that captures alone would wait for the others.
    if all(group.each(stored is not None)) and stored is not None:
        return PlacedActivations(stored, chosen, tuple(names))
    with live.progress.step("capturing activations", len(texts), "texts") as advance:
        # The prefix that all share ends before the first place that is asked for: its own stream is not seen.
        keep = min(map(len, sequences)) - min(map(min, places))
        prepared = prepare_batches(model, sequences, live.batch_size, keep=keep)
        indices = torch.tensor(places) - len(prepared.prefix)
        shared = prefix_cache(model, prepared.prefix)
        own: list[list[Tensor]] = []
        for batch in group.own(prepared.batches):
            wanted = indices[list(batch.rows)]
            make = partial(streams_at, model, found, batch, wanted, chosen, shared)
            part = (len(chosen), len(batch.rows), len(names), found.d_model)
            own.append(streams_once(kept, part_key(prepared, batch, wanted, chosen), part, make))
            advance(len(batch.rows) * group.count)
        resid = torch.empty(shape, dtype=model.dtype)
        for batch, given in zip(prepared.batches, group.gather(own), strict=True):
            for row, stream in enumerate(given):
                resid[list(batch.rows), row] = stream
    result = PlacedActivations(resid, chosen, tuple(names))
    check_numbers(result)
    if path and group.first:
        parts = [part_key(prepared, batch, indices[list(batch.rows)], chosen) for batch in prepared.batches]
        keep_whole(path, resid, kept, parts)
    return result


def chosen_layers(found: Architecture, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers that are asked for. Raises InputError for one that is not there, or none."""
    chosen = tuple(range(found.depth + 1)) if layers is None else tuple(layers)
    if not chosen:
        raise InputError("no layer is asked for; give at least one, or none at all for every layer")
    for layer in chosen:
        if not 0 <= layer <= found.depth:
            raise InputError(f"--layer {layer} is out of range; the model has resid[0] to resid[{found.depth}]")
    return chosen


def places_of(texts: Sequence[Text], names: Sequence[str]) -> list[list[int]]:
    """Return the index of every named place in every text. Raises InputError, naming text and place, where one is missing."""
    if not texts or not names:
        raise InputError(
            f"there is nothing to capture: {len(texts)} texts at {len(names)} places; give at least one of each"
        )
    for number, text in enumerate(texts, 1):
        for name in names:
            if name not in text.places:
                raise InputError(
                    f"text {number} of {len(texts)} has no place {name}; it has {', '.join(text.places) or 'none'}: "
                    "capture only texts that have it"
                )
    return [[text.places[name] for name in names] for text in texts]


def streams_at(
    model: PreTrainedModel,
    found: Architecture,
    batch: Batch,
    indices: Int[Tensor, "batch places"],
    layers: Sequence[int],
    shared: Any,
) -> list[Tensor]:
    """Return, for each layer that is asked for, the vectors of a batch at the places of its rows."""
    with resid_of(model, found, taken_at(batch, indices, found.d_model, model.dtype)) as streams:
        final_hidden(model, batch, shared)
    return [streams[layer] for layer in layers]


def taken_at(
    batch: Batch, indices: Int[Tensor, "batch places"], d_model: int, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Return what takes the vectors at each row's places out of a stream, to the CPU: the streams of all layers are large."""

    def take(stream: Tensor) -> Tensor:
        whole = merged(stream, batch, d_model)
        rows = torch.arange(len(whole), device=whole.device)[:, None]
        return whole[rows, indices.to(whole.device)].to("cpu", dtype)

    return take


def part_key(
    prepared: PreparedPrompts, batch: Batch, indices: Int[Tensor, "batch places"], layers: Sequence[int]
) -> list[Any]:
    """Return what decides the activations of one batch, besides the weights and what else `kept` stands for."""
    about = [prepared.prefix, batch.tokens.tolist(), batch.lengths.tolist()]
    return ["activations at places", *about, indices.tolist(), list(layers)]


def check_numbers(found: PlacedActivations) -> None:
    """Raise InputError, naming text, layer and place, when an activation is NaN or infinite."""
    for number, text in enumerate(found.resid, 1):
        wrong = ~torch.isfinite(text).all(-1)
        if bool(wrong.any()):
            layer, place = wrong.nonzero()[0].tolist()
            raise InputError(
                f"the activations of text {number} are NaN or infinite at resid[{found.layers[layer]}], place "
                f"{found.names[place]}; try --dtype float32, or check the checkpoint"
            )
