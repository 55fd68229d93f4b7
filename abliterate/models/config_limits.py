"""Whether a config.json describes a model that can be built: looked at before transformers makes a list of a billion layers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from abliterate.errors import CheckpointError, first_line
from abliterate.quantization.formats.base import read_config
from abliterate.storage.foreign_files import require_files
from abliterate.storage.names import CONFIG

MOST_MODULES = 2048
"""Layers, experts and the like that a config may ask for: the deepest models have some hundred, the widest some hundred experts."""

MOST_WIDE = 1 << 26
"""Of a width or a vocabulary: the largest known vocabulary is of 262,208 tokens."""

MOST = (1 << 63) - 1
"""Of any whole number: torch holds no larger one."""

COUNTS = re.compile(
    r"(n|num)_(\w+_)?(layers?|experts|blocks|heads|stages|predictors)|(\w+_)?layers|(\w+_)?num_(layers|experts)|depth|depths|"
    r"(n|num)_head_kv|n_shared|moe_num_\w*experts"
)
"""Names of what is built as often as the number says."""

WIDTHS = re.compile(
    r"(vocab|hidden|intermediate|\w+_hidden|\w+_intermediate)_size|d_model|d_ff|ffn_dim|(\w+_)?head_dim|n_embd|n_inner|dim"
)
"""Names of what a weight is as wide as."""


def check_config(folder: Path) -> None:
    """Raise CheckpointError where the folder holds a pipe, or a config.json that cannot be read or asks for too much."""
    try:
        require_files(folder)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror or first_line(error)})") from error
    if not (folder / CONFIG).is_file():
        return  # what needs one says so
    check_numbers(f"{folder}: config.json", read_config(folder))


def check_numbers(place: str, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError, naming the place, where a config asks for more of something than any model has."""
    for name, value in numbers_of(config):
        plain = name.rpartition(".")[2]
        most = MOST_MODULES if COUNTS.fullmatch(plain) else MOST_WIDE if WIDTHS.fullmatch(plain) else MOST
        if abs(value) > most:
            raise CheckpointError(
                f"{place}: {name} is {value:.3g}; expected at most {most}; download it again, or repair it"
            )


def numbers_of(config: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, int | float]]:
    """Yield every finite number of a config with its name, parts of the model and lists included."""
    for name, value in config.items():
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, Mapping):
                yield from numbers_of(one, f"{place}{name}.")
            elif (
                isinstance(one, int | float)
                and not isinstance(one, bool)
                and (isinstance(one, int) or math.isfinite(one))
            ):
                yield f"{place}{name}", one
