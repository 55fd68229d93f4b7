"""`abliterate inspect`: the writers and sizes of a model, from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.edits.bias_sites import BiasSite, find_bias_sites
from abliterate.errors import ArchitectureError, InputError
from abliterate.pipeline.open_model import open_config
from abliterate.pipeline.options import ModelOptions
from abliterate.progress import SILENT, Progress
from abliterate.proofs.architecture import Proved, require_proof
from abliterate.records.observations import OBSERVATIONS_FORMAT
from abliterate.records.shapes import OBSERVED
from abliterate.report.load import read_record
from abliterate.storage.names import DIRECTIONS, OBSERVATIONS


@dataclass(frozen=True)
class Inspection:
    """What can be said of a model from its config alone; `proved` is None where its writers cannot be proved.

    `bias_sites` are the places that can hold an addition, by the layer of the stream that it is made to.
    """

    name: str
    architecture: Architecture
    proved: Proved | None
    parameters: int
    stored_bytes: int
    edited_parameters: int
    layer_parameters: int
    bias_sites: Mapping[int, BiasSite]


def inspect(options: ModelOptions, progress: Progress = SILENT) -> Inspection:
    """Return the writers and sizes of a model, from its config, and prove them on a clone; no weights are read.

    Raises ArchitectureError when its writers cannot be found.
    """
    source_name, empty = open_config(options)
    architecture, proved = require_proof(empty, allow_unproved=True)
    parameters = dict(empty.named_parameters())
    item = empty.config.dtype.itemsize if empty.config.dtype is not None else 4
    edited = [
        parameters[f"{writer.module}.{name}"]
        for writer in architecture.writers
        for name in (one.name for one in writer.parameters)
    ]
    inside = [
        one for name, one in parameters.items() if name.startswith(tuple(f"{layer}." for layer in architecture.layers))
    ]
    total = sum(one.numel() for one in parameters.values())
    return Inspection(
        source_name,
        architecture,
        proved,
        total,
        total * item,
        sum(one.numel() for one in edited),
        sum(one.numel() for one in inside),
        bias_sites_of(empty, architecture),
    )


def words_of_edit(folder: Path) -> Mapping[str, Any]:
    """Return what a run's own record says in words of the directions of its edit; that record stays where the run was.

    Raises InputError where it says nothing, or is not there.
    """
    observations = read_record(folder / OBSERVATIONS, {"words": OBSERVED["words"]}, OBSERVATIONS_FORMAT)
    words = (observations or {}).get("words")
    if words is None:
        raise InputError(
            f"{folder}: has no words of what was removed beside it; `abliterate features explain ORIGINAL --sae "
            f"{folder / DIRECTIONS}` finds them"
        )
    return dict(words)


def bias_sites_of(empty: PreTrainedModel, architecture: Architecture) -> Mapping[int, BiasSite]:
    """Return the places that can hold an addition; none where nothing holds one exactly."""
    try:
        return find_bias_sites(empty, architecture)
    except ArchitectureError:
        return {}
