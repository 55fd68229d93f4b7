"""Capture of the residual stream at chosen positions, with a cache on disk that is addressed by content."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.activations.cache import ActivationCache, read_cached, write_cached
from abliterate.activations.notebook import frame_of, lines_by_layer, small_table
from abliterate.activations.separation import HALVES, Separation, check_sides, cosine_of, held_out, places_of
from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.streams import lanes, resid_of
from abliterate.architectures.wrappers import unwrapped
from abliterate.errors import ArchitectureError, InputError
from abliterate.hub.on_hub import OnHub
from abliterate.models.batches import Batch, BatchSize, PreparedPrompts, model_device, prepare_batches
from abliterate.models.forward import at_positions, final_hidden, prefix_cache
from abliterate.parallel.processes import Processes
from abliterate.progress import SILENT, Progress
from abliterate.prompts.chat_format import ChatFormat
from abliterate.storage.names import ACTIVATIONS
from abliterate.storage.record_log import RecordLog
from abliterate.storage.tensor_file import load_whole, save_whole

ACTIVATIONS_RECORD = "abliterate"


@dataclass(frozen=True, repr=False)
class Activations(OnHub):
    """`resid[l]` of every prompt, `l = 0..L`, at some positions counted from the end of the prompt.

    They have the length of the prompts, and give one prompt's `[positions, layers, d_model]` for a number, Activations for
    a slice.

    Examples:
        >>> one = capture(model, tokenizer, ["How do I bake bread?"])
        >>> one.positions
        (-4, -3, -2, -1)
        >>> one
        Activations(1 prompt, resid[0..8], positions -4..-1, d_model 160, torch.float32)
        >>> one.mean().shape  # [positions, layers, d_model]
        torch.Size([4, 9, 160])
        >>> one.save(out.with_suffix(".safetensors"))
        >>> torch.equal(Activations.load(out.with_suffix(".safetensors"))[-1], one[0])
        True
    """

    resid: Float[Tensor, "prompts positions layers d_model"]
    positions: tuple[int, ...]

    _file = ACTIVATIONS
    _hub_mixin_config = {"abliterate": "activations"}  # noqa: RUF012 (the mixin's own)

    def __len__(self) -> int:
        return len(self.resid)

    @overload
    def __getitem__(self, prompt: int) -> Float[Tensor, "positions layers d_model"]: ...

    @overload
    def __getitem__(self, prompt: slice) -> Activations: ...

    def __getitem__(self, prompt: int | slice) -> Float[Tensor, "positions layers d_model"] | Activations:
        if isinstance(prompt, slice):
            return Activations(self.resid[prompt], self.positions)
        return self.resid[prompt]

    def __iter__(self) -> Iterator[Float[Tensor, "positions layers d_model"]]:
        return iter(self.resid)

    def __repr__(self) -> str:
        prompts, _, layers, d_model = self.resid.shape
        count = f"{prompts} prompt{'' if prompts == 1 else 's'}"
        places = places_of(self.positions, layers)
        return f"Activations({count}, {places}, d_model {d_model}, {self.resid.dtype})"

    def _repr_html_(self) -> str:
        prompts, _, layers, d_model = self.resid.shape
        rows = {
            "prompts": prompts,
            "positions": ", ".join(map(str, self.positions)),
            "layers": f"resid[0..{layers - 1}]",
        }
        return small_table("Activations", {**rows, "d_model": d_model, "dtype": self.resid.dtype})

    def rows(self, places: Sequence[int]) -> Activations:
        """Return those of some of the prompts."""
        return Activations(self.resid[list(places)], self.positions)

    def at(self, positions: Sequence[int]) -> Activations:
        """Return those at some of the positions. Raises InputError for one that was not captured."""
        for position in positions:
            if position not in self.positions:
                known = ", ".join(map(str, self.positions))
                raise InputError(f"position {position} was not captured; there are {known}")
        return Activations(self.resid[:, [self.positions.index(one) for one in positions]], tuple(positions))

    def mean(self) -> Float[Tensor, "positions layers d_model"]:
        """Return the mean over the prompts, summed in float64."""
        total = torch.zeros(self.resid.shape[1:], dtype=torch.float64)
        for prompt in self.resid:
            total += prompt.cpu().double()
        return total / len(self.resid)

    def separation(self, harmless: Activations) -> Separation:
        """Return how well difference in means parts this side (the harmful one) from `harmless`, at every place.

        Each half of the prompts is scored along the difference in means of the other half, so that no prompt is judged by
        a direction that it made. Raises InputError for other positions, another model, and fewer than 4 prompts a side.

        Examples:
            >>> found = capture(model, tokenizer, harmful).separation(capture(model, tokenizer, harmless))
            >>> position, layer = found.best()
        """
        other = harmless.at(self.positions)
        check_sides(self.resid, other.resid)
        differences = [self[half].mean() - other[half].mean() for half in HALVES]
        return Separation(self.positions, *held_out(self.resid, other.resid), cosine_of(*differences))

    def to_pandas(self) -> Any:
        """Return a data frame with a row for every (prompt, position, layer), a column for every number of the stream."""
        index = {"prompt": range(len(self)), "position": self.positions, "layer": range(self.resid.shape[2])}
        return frame_of(self.resid, index, range(self.resid.shape[3]))

    def plot(self) -> Any:
        """Return a plotly Figure of the mean length of the stream by layer, a line for each position."""
        lengths = torch.stack([prompt.cpu().double().norm(dim=-1) for prompt in self.resid]).mean(0)
        return lines_by_layer("mean length of the residual stream", lengths, self.positions)

    def save(self, path: Path | str) -> None:
        """Write a safetensors file, whole or not at all. Raises InputError where it cannot be written."""
        record = json.dumps({"positions": self.positions})
        save_whole(Path(path), {"resid": self.resid.contiguous()}, {ACTIVATIONS_RECORD: record})

    @classmethod
    def load(cls, path: Path | str) -> Activations:
        """Read what `save` wrote, given the file or its folder. Raises InputError for anything else."""
        place = cls.file_in(Path(path))
        tensors, record = load_whole(place, ACTIVATIONS_RECORD)
        resid = tensors.get("resid")
        positions: Any = record.get("positions")
        whole = isinstance(positions, list) and all(isinstance(one, int) for one in positions)
        if resid is None or not whole or resid.dim() != 4 or resid.shape[1] != len(positions):
            raise InputError(f"{place}: holds no activations; give a file that Activations.save wrote")
        return cls(resid, tuple(positions))


def capture(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase | ChatFormat,
    prompts: object,
    *,
    positions: Sequence[int] | None = None,
    batch_size: BatchSize = "auto",
    cache: ActivationCache | None = None,
    architecture: Architecture | None = None,
    processes: Processes | None = None,
    kept: RecordLog | None = None,
    progress: Progress = SILENT,
) -> Activations:
    """Run `prompts` through `model` and return `resid[l]` for every layer at the post-instruction positions.

    `prompts` are a PromptSet, a list of strings or of conversations (`[{"role": "user", "content": ...}]`, put whole), a
    `datasets.Dataset` (its column chosen as `load_prompts` does) or a Series; `tokenizer` may be a ChatFormat, to set a
    system prompt or a thinking switch. Activations keep the model's dtype, on the CPU. What is put around the model is
    seen through, and adapters inside of it take part. `processes` share the batches out, and all get the same.

    `kept` holds batches that an interrupted run on the same weights has left, as files beside its records, until the
    whole is in `cache`. Raises InputError for other prompts, a missing chat template, and NaN or infinite activations.

    Examples:
        >>> capture(model, tokenizer, harmful.first(8)).resid.shape  # [prompts, positions, layers, d_model]
        torch.Size([8, 4, 9, 160])
    """
    live = unwrapped(model)
    chat = tokenizer if isinstance(tokenizer, ChatFormat) else ChatFormat(tokenizer)
    sequences = chat.encode(prompts)
    chosen = tuple(positions) if positions is not None else chat.positions()
    path = cache.path(sequences, chosen, live.dtype, batch_size, model_device(live).type) if cache else None
    group = processes or Processes()
    found = architecture or find_architecture(live)
    shape = (len(sequences), len(chosen), found.depth + 1, found.d_model)
    stored = read_cached(path, shape, live.dtype) if path else None
    # All or none: one process that captures alone would wait for the others.
    if all(group.each(stored is not None)) and stored is not None:
        return Activations(stored, chosen)
    with progress.step("capturing activations", len(sequences), "prompts") as advance:
        prepared = prepare_batches(live, sequences, batch_size, keep=-min(chosen))
        resid = torch.empty(shape, dtype=live.dtype)
        shared = prefix_cache(live, prepared.prefix)
        own: list[list[Tensor]] = []
        for batch in group.own(prepared.batches):
            part = (found.depth + 1, len(batch.rows), len(chosen), found.d_model)
            make = partial(streams_of, live, found, batch, chosen, shared)
            own.append(streams_once(kept, part_key(prepared, batch, chosen), part, make))
            advance(len(batch.rows) * group.count)
        for batch, given in zip(prepared.batches, group.gather(own), strict=True):
            for layer, stream in enumerate(given):
                resid[list(batch.rows), :, layer] = stream
    check_finite(resid)
    if path and group.first:
        keep_whole(path, resid, kept, [part_key(prepared, batch, chosen) for batch in prepared.batches])
    return Activations(resid, chosen)


def streams_of(
    model: PreTrainedModel, found: Architecture, batch: Batch, positions: Sequence[int], shared: Cache | None
) -> list[Tensor]:
    """Return `resid[l]` of a batch at the positions, layer by layer; `shared` is the cache of what all prompts begin with."""
    with resid_of(model, found, chosen_of(batch, positions, found.d_model, model.dtype)) as streams:
        final_hidden(model, batch, shared)
    return streams


def part_key(prepared: PreparedPrompts, batch: Batch, positions: Sequence[int]) -> list[Any]:
    """Return what decides the activations of one batch, besides the weights and what else `kept` stands for."""
    return ["activations", prepared.prefix, batch.tokens.tolist(), batch.lengths.tolist(), positions]


def streams_once(
    kept: RecordLog | None, key: object, shape: Sequence[int], make: Callable[[], list[Tensor]]
) -> list[Tensor]:
    """Do `kept.once` for a batch's streams, together of `shape`; they go into a file of their own: they are large."""
    if kept is None:
        return make()
    known = read_cached(kept.file(key), shape)
    if known is not None:
        return [stream.clone() for stream in known]
    streams = make()
    with kept.writing():
        write_cached(kept.file(key), torch.stack(streams))
    return streams


def chosen_of(batch: Batch, positions: Sequence[int], d_model: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Return what takes the vectors at `positions` out of a stream, to the CPU: the streams of all layers are large."""
    return lambda stream: at_positions(merged(stream, batch, d_model), batch, positions).to("cpu", dtype)


def merged(
    stream: Float[Tensor, "batch more *rest"], batch: Batch, d_model: int
) -> Float[Tensor, "batch length d_model"]:
    """Return one vector for each token of the batch: the mean over the lanes, where there are several.

    Raises ArchitectureError when the stream is longer than the batch.
    """
    if stream.shape[1] != batch.tokens.shape[1]:
        extra = stream.shape[1] - batch.tokens.shape[1]
        raise ArchitectureError(f"the model puts {extra} tokens of its own into each prompt; this is not supported")
    apart = lanes(stream, d_model)
    return apart if apart.dim() == 3 else apart.mean(dim=2)


def check_finite(resid: Float[Tensor, "prompts positions layers d_model"]) -> None:
    """Raise InputError, naming prompt and layer, when an activation is NaN or infinite."""
    for number, prompt in enumerate(resid):
        if not bool(torch.isfinite(prompt).all()):
            layer = int((~torch.isfinite(prompt)).any(-1).any(0).nonzero()[0])
            raise InputError(
                f"the activations of prompt {number + 1} are NaN or infinite at resid[{layer}]; "
                "try --dtype float32, or check the checkpoint"
            )


def keep_whole(path: Path, resid: Tensor, kept: RecordLog | None, parts: Sequence[object]) -> None:
    """Write the activations into the cache, and remove the parts of them that were kept."""
    if kept is None:
        try:
            write_cached(path, resid)
        except OSError as error:
            # A cache is a convenience: what was captured is not lost with it.
            warnings.warn(f"activations could not be kept in {path.parent} ({error.strerror or error})", stacklevel=3)
        return
    with kept.writing():
        write_cached(path, resid)
        for part in parts:
            kept.file(part).unlink(missing_ok=True)
