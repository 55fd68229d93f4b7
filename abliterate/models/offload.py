"""Models larger than memory: decoder layers that stay on the disk and stream through memory, once a forward pass.

accelerate does the streaming. What is decided here is which layers stay, how many tokens a pass may carry in the
memory that is left (few, large passes: each reads the checkpoint), and how much was read, which is counted.
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.layers import decoder_layers
from abliterate.architectures.tying import shares_matrix
from abliterate.architectures.wrappers import owner_of
from abliterate.errors import InputError
from abliterate.storage.own_files import own_folder
from abliterate.storage.temporary import writing_to

FEWEST_TOKENS = 512
"""Below so many tokens a pass, reading takes so much longer than computing that the run is refused."""

MOST_TOKENS = 32768
"""Beyond, larger passes save little: the prompts of a run fit a few such passes. What memory is left keeps layers."""

DEFAULT_TOKENS = 2048
"""Room for a pass of a model that fits: what `forward` runs at once."""

HIDDEN, INNER = 10, 3
"""Vectors of the stream, and of the widest inner activation, that a decoder layer holds for each token at its peak."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of a model in the dtype that it runs in: outside the decoder layers, of each layer, of work per token.

    `head` are those of a head that is not the token embedding as well, which `outside` does not count.
    """

    outside: int
    layers: tuple[int, ...]
    token: int
    head: int = 0

    @property
    def whole(self) -> int:
        """Return the bytes of all weights."""
        return self.outside + self.head + sum(self.layers)

    def fit(self, free: int) -> bool:
        """Tell whether all weights, and a pass of the usual size, fit into so many bytes."""
        return self.whole + DEFAULT_TOKENS * self.token <= free


@dataclass(frozen=True)
class Offload:
    """Where the parts of a model live, by module name, and how many tokens one pass may carry."""

    device_map: Mapping[str, str]
    tokens: int


@dataclass(frozen=True)
class Streaming:
    """What a live model that streams knows of itself."""

    tokens: int
    key_value_bytes: int
    weights: CountedWeights


class CountedWeights(Mapping[str, Tensor]):
    """The weights on the disk, as accelerate asks for them; `read` counts the bytes that it was given."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.read = 0

    def __getitem__(self, name: str) -> Tensor:
        """Read one weight."""
        value = self.weights[name]
        self.read += value.nbytes
        return value

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.weights)

    def __len__(self) -> int:
        """Return the number of weights."""
        return len(self.weights)


def sizes_of(model: PreTrainedModel, dtype: torch.dtype) -> Sizes:
    """Measure a model, which may be on the meta device."""
    layers = decoder_layers(model)
    weights = {id(one): one.numel() for one in model.parameters()}
    inside = [sum(one.numel() for one in model.get_submodule(layer).parameters()) for layer in layers]
    d_model = int(model.get_input_embeddings().weight.shape[-1])
    inner = (max(one.shape[-2:]) for layer in layers for one in model.get_submodule(layer).parameters())
    item = int(dtype.itemsize)
    head = sum(weights[id(one)] for one in own_head(model))
    return Sizes(
        (sum(weights.values()) - sum(inside) - head) * item,
        tuple(count * item for count in inside),
        (HIDDEN * d_model + INNER * max(inner, default=d_model)) * item,
        head * item,
    )


def own_head(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return the weights of the head where it is not the token embedding as well."""
    head = model.get_output_embeddings()
    return [] if head is None or shares_matrix(model) else list(head.parameters())


def room_left(limit: int | None) -> int:
    """Return the bytes of main memory that this process may still take; `limit` is for all of it.

    Pages of files that are mapped do not count: the system takes them back when it needs them.
    """
    available = int(psutil.virtual_memory().available)
    if limit is None:
        return available
    own = psutil.Process().memory_info()
    return min(available, limit - int(own.rss - getattr(own, "shared", 0)))


def place_layers(model: PreTrainedModel, sizes: Sizes, device: torch.device, free: int, memory: int) -> Offload | None:
    """Decide what lives where, `free` bytes on the device and `memory` in main memory; None when all of it fits.

    On the CPU both are the same; there the head too can stay on the disk, since reading it copies nothing.
    Raises InputError when not even one layer and the smallest pass fit.
    """
    if sizes.fit(free):
        return None
    largest, maps = max(sizes.layers, default=0), device.type == "cpu" and sizes.head > 0
    outside = sizes.outside + (0 if maps else sizes.head)
    spare = free - outside - largest
    if not sizes.layers or spare < FEWEST_TOKENS * sizes.token:
        raise InputError(
            f"the weights need {sizes.whole / 1e9:.1f} GB on {device}, {max(0, free) / 1e9:.1f} GB are free, and even "
            f"layer by layer {(outside + largest + FEWEST_TOKENS * sizes.token) / 1e9:.1f} GB; "
            "use more --max-memory, another --device or a smaller --dtype"
        )
    tokens = min(MOST_TOKENS, spare // sizes.token)
    rooms = {str(device): spare - tokens * sizes.token}
    if device.type != "cpu":
        rooms["cpu"] = memory
    places = dict.fromkeys(outside_of(model), str(device))
    if maps:
        head = model.get_output_embeddings()
        places |= {name: "disk" for name, module in model.named_modules() if module is head}
    for layer, size in zip(decoder_layers(model), sizes.layers, strict=True):
        place = next((name for name, room in rooms.items() if room >= size), "disk")
        if place != "disk":
            rooms[place] -= size
        places[layer] = place
    return Offload(places, tokens)


def outside_of(model: PreTrainedModel) -> list[str]:
    """Return the largest modules, and the parameters, that hold no decoder layer."""
    whole = decoder_layers(model)[0].rpartition(".")[0]
    found: list[str] = []
    parts = whole.split(".")
    for depth in range(len(parts)):
        above = ".".join(parts[:depth])
        module = model.get_submodule(above)
        names = [*dict(module.named_children()), *dict(module.named_parameters(recurse=False))]
        names += dict(module.named_buffers(recurse=False))
        found += [f"{above}.{name}" if above else name for name in names if name != parts[depth]]
    return found


def watch(model: PreTrainedModel, offload: Offload, folder: Path) -> None:
    """Count from now on what a dispatched model reads, and remember how much a pass may carry.

    `folder` is where it keeps converted weights: it goes when the model goes.
    """
    counted: dict[int, CountedWeights] = {}
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        if hook is not None and getattr(hook, "offload", False):
            shared = hook.weights_map.dataset
            hook.weights_map.dataset = counted.setdefault(id(shared), CountedWeights(shared))
    weights = next(iter(counted.values()), CountedWeights({}))
    model.streaming = Streaming(offload.tokens, key_value_bytes(model), weights)
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)


def key_value_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of keys and values that a token of a reply leaves behind."""
    config = model.config.get_text_config(decoder=True)
    heads, width = getattr(config, "num_key_value_heads", None), getattr(config, "head_dim", None)
    vector = heads * width if heads and width else config.hidden_size
    return int(2 * vector * len(decoder_layers(model)) * model.dtype.itemsize)


def streaming_of(model: PreTrainedModel) -> Streaming | None:
    """Return how a model streams from the disk; None when all of it is in memory."""
    found: Streaming | None = getattr(model, "streaming", None)
    return found


def bytes_read(model: PreTrainedModel) -> int:
    """Return the bytes of weights that were read from the disk since the model was loaded."""
    streaming = streaming_of(model)
    return streaming.weights.read if streaming else 0


def streaming_note(model: PreTrainedModel) -> tuple[str, ...]:
    """Return one line about what a model that streams has read so far, or none."""
    if streaming_of(model) is None:
        return ()
    read, whole = bytes_read(model), sizes_of(model, model.dtype).whole
    return (
        f"layers stayed on the disk: {read / 1e9:.1f} GB of weights were read, {read / whole:.1f} times all of them",
    )


def offloaded_parameter(model: PreTrainedModel, name: str) -> Tensor:
    """Return a parameter of a live model, read from the disk where it is kept there; errors as `owner_of`."""
    owner = owner_of(model, name)
    with align_module_device(owner):
        value: Tensor = owner.get_parameter(name.rpartition(".")[2]).detach()
        return value


def rows_at_once(model: PreTrainedModel, lengths: Sequence[int], usual: int, kept: int = 0) -> int:
    """Return how many rows of these lengths one pass should carry: `usual`, or all that fits where passes cost reading.

    `kept` is how many tokens of keys and values each row leaves in memory.
    """
    streaming = streaming_of(model)
    if streaming is None:
        return usual
    longest = max(lengths, default=1)
    rows = streaming.tokens // longest
    if kept:
        token = sizes_of(model, model.dtype).token
        rows = min(rows, streaming.tokens * token // 2 // ((longest + kept) * streaming.key_value_bytes))
    return max(1, rows)


def working_folder(parent: Path) -> Path:
    """Return a new folder for weights that must be converted before they can stream.

    It goes with the process; what killed runs of this machine left is removed now.
    """
    own = f"offload-{platform.node()}-"
    for left in parent.glob(f"{own}*"):
        if not psutil.pid_exists(int(left.name.removeprefix(own).partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    with writing_to(str(parent), "set ABLITERATE_CACHE to another folder"):
        own_folder(parent)
        return Path(tempfile.mkdtemp(prefix=f"{own}{os.getpid()}-", dir=parent))
