"""An adapter's config, which is its maker's: types, ranks that its weights have, and regular expressions that end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from abliterate.checkpoints.shards import read_shard
from abliterate.errors import CheckpointError, InputError, first_line
from abliterate.parallel.bounded import BoundedWorker, BoundExceeded
from abliterate.storage.foreign_files import read_json, require_files
from abliterate.storage.names import ADAPTER, ADAPTER_WEIGHTS

MAX_CONFIG_BYTES = 16 << 20

MATCH_SECONDS = 2
"""Of computing, for all regular expressions on all names of the model's modules: those of real adapters take milliseconds."""

SPECIAL = "all-linear"
"""A word for modules that is no expression."""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Return an adapter's config. Raises InputError when it cannot be read."""
    path = folder / ADAPTER
    try:
        config = read_json(path, MAX_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: cannot be read (expected an object); is it a PEFT adapter?")
    return config


def check_adapter_config(folder: Path, model: nn.Module) -> None:
    """Raise InputError for an adapter whose config or weights would take `model` for ever, or all memory, to be put on it."""
    path = folder / ADAPTER
    config = read_adapter_config(folder)
    try:
        require_files(folder)
        sizes = [max(one.shape, default=0) for one in read_shard(folder, ADAPTER_WEIGHTS).tensors]
    except (OSError, CheckpointError) as error:
        raise InputError(f"{folder}: the adapter cannot be read ({first_line(error)}); download it again") from error
    for name, rank in ranks(config):
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= max(sizes, default=0):
            raise InputError(f"{path}: {name} is {rank!r}, and its weights have no such rank; download it again")
    for name, alpha in (("lora_alpha", config.get("lora_alpha")), *pairs(config, "alpha_pattern")):
        if alpha is not None and (
            isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e9
        ):
            raise InputError(f"{path}: {name} is {alpha!r}; expected a finite number")
    expressions = [*patterns(config)]
    names = [name for name, _ in model.named_modules()] + [name for name, _ in model.named_parameters()]
    try:
        BoundedWorker(lambda asked: matched(*asked))([expressions, names], MATCH_SECONDS)
    except BoundExceeded as error:
        raise InputError(
            f"{path}: its regular expressions for the names of modules take too long ({first_line(error)}); write out the "
            "names in target_modules"
        ) from error
    except RuntimeError as error:
        raise InputError(f"{path}: a regular expression in it is none ({first_line(error)}); repair it") from error


def ranks(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the ranks that a config names, each with where."""
    if config.get("r") is not None:
        yield "r", config["r"]
    yield from pairs(config, "rank_pattern")


def pairs(config: Mapping[str, Any], field: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of an object in a config by name; what is no object is left to peft."""
    held = config.get(field)
    if isinstance(held, dict):
        yield from ((f"{field}.{name[:80]}", value) for name, value in held.items())


def patterns(config: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the regular expressions of a config as peft puts them together, and whether a whole name must match."""
    for field in ("target_modules", "exclude_modules", "modules_to_save", "target_parameters"):
        if isinstance(config.get(field), str) and config[field] != SPECIAL:
            yield config[field], True
    for field in ("rank_pattern", "alpha_pattern"):
        held = config.get(field)
        yield from ((rf"(.*\.)?({name})$", False) for name in (held if isinstance(held, dict) else ()))
    layers = config.get("layers_pattern")
    for one in [layers] if isinstance(layers, str) else layers if isinstance(layers, list) else []:
        if isinstance(one, str):
            yield rf".*\.{one}\.(\d+)\.", False


def matched(expressions: Sequence[Sequence[Any]], names: Sequence[str]) -> int:
    """Return how many names the expressions match: what peft will do, and take as long for."""
    found = 0
    for expression, whole in expressions:
        compiled = re.compile(expression)
        found += sum(1 for name in names if (compiled.fullmatch(name) if whole else compiled.match(name)))
    return found
