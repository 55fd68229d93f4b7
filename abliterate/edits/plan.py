"""The plan: a recipe resolved on one checkpoint, as a list of tensor edits. Nothing is written here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.quantizers.base import get_keys_to_not_convert

from abliterate.architectures.architecture import Architecture, Writer
from abliterate.architectures.sites import Site
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.quantized_weight import QuantizedWeight, quantized_weights
from abliterate.checkpoints.shard_rewrite import Replacement
from abliterate.checkpoints.shards import DTYPES, Shard
from abliterate.edits.bias_sites import Addition, find_bias_sites
from abliterate.edits.stored import Stored, StoredPlace
from abliterate.edits.tensor_edits import AddedEdit, ColumnsEdit, ScalesEdit, TensorEdit, UnquantizedEdit, ValuesEdit
from abliterate.errors import ArchitectureError, InputError
from abliterate.interventions.recipe import Recipe
from abliterate.models.loading import dtype_name
from abliterate.projection import Amount, Mixing, unit_rows

FILE_DTYPES = {name: stored for stored, (_, name) in DTYPES.items()}
"""The names of dtypes in a file, by torch's."""

QUANTISED = (ValuesEdit.kind, ScalesEdit.kind)
"""Edits whose rounding is not that of a dtype: it is measured."""


@dataclass(frozen=True)
class EditPlan:
    """Every edit that a recipe makes in one checkpoint, by tensor name; `basis` is what the stream loses.

    Of a recipe that adds, `basis` is the direction, and `addition` says where; there are no `edits` where that has no bias.
    `left_alone` are tensors that the model does not load, such as heads that predict several tokens at once.
    `unquantised` are the modules that are written in `edited_dtype` instead of their quantised format: their weights
    change dtype and shape, and their scales are written no more. `never_quantised` are the modules that transformers
    does not quantise where the config does not list any.
    """

    edits: dict[str, TensorEdit]
    recipe: Recipe
    basis: Float[Tensor, "k d_model"]
    left_alone: tuple[str, ...] = ()
    edited_dtype: str | None = None
    unquantised: tuple[str, ...] = ()
    never_quantised: tuple[str, ...] = ()
    addition: Addition | None = None

    def require_edits(self) -> None:
        """Raise InputError when the checkpoint has no tensor that could hold the edit."""
        if self.addition and not self.edits:
            raise InputError(
                f"{self.addition.bias_site.writer.module}: has no bias that could hold what is added; write an adapter instead "
                "(--save adapter, or abliterate export --to adapter)"
            )

    @property
    def digest(self) -> str:
        """Return a SHA-256 over everything that decides the written bytes, source apart."""
        whole = hashlib.sha256()
        for edit in self.edits.values():
            strength = edit.strength.numbers if isinstance(edit.strength, Mixing) else edit.strength
            whole.update(json.dumps([edit.name, edit.kind, edit.axis, strength]).encode())
            whole.update(edit.basis.contiguous().numpy().tobytes())
        if self.edited_dtype:
            whole.update(self.edited_dtype.encode())
        if self.addition:
            whole.update(json.dumps(self.recipe.to_json()).encode() + self.basis.contiguous().numpy().tobytes())
        return whole.hexdigest()

    def stored_dtype(self, checkpoint: Checkpoint) -> torch.dtype:
        """Return the coarsest dtype that an edited tensor is stored in, quantised ones apart: what rounding it explains."""
        dtypes = {
            checkpoint.tensors[name].torch_dtype for name, edit in self.edits.items() if edit.kind not in QUANTISED
        }
        return max({torch.float32, *dtypes}, key=lambda dtype: torch.finfo(dtype).eps)

    def layout(self, original: Checkpoint) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of every tensor that the edited checkpoint of `original` must hold."""
        held = {name: (entry.dtype, entry.shape) for name, entry in original.tensors.items()}
        for edit in self.unquantized_edits():
            for name in (edit.weight.tensors.values, edit.weight.tensors.scales):
                del held[name]
        new = {
            edit.name: (FILE_DTYPES[str(self.edited_dtype)], edit.weight.shape()) for edit in self.unquantized_edits()
        }
        return held | new

    def unquantized_edits(self) -> list[UnquantizedEdit]:
        """Return the edits of weights that leave their quantised format."""
        return [edit for edit in self.edits.values() if isinstance(edit, UnquantizedEdit)]

    def grown_bytes(self, original: Checkpoint) -> int:
        """Return how many bytes more than in `original` the tensors of the edited checkpoint take."""
        layout = self.layout(original)
        after = sum(DTYPES[dtype][0] * math.prod(shape) for dtype, shape in layout.values())
        return after - sum(entry.nbytes for entry in original.tensors.values())

    def replacements(self, original: Checkpoint, shard: Shard) -> dict[str, Replacement | None]:
        """Return what is written for tensors of `shard`, by their names in it; nothing where the shard keeps its header."""
        gone: dict[str, Replacement | None] = {}
        for edit in self.unquantized_edits():
            new = Replacement(
                edit.name, FILE_DTYPES[str(self.edited_dtype)], edit.weight.shape(), partial(edit.expected, original)
            )
            gone |= {edit.weight.tensors.scales: None, edit.weight.tensors.values: new}
        here = {entry.name: entry for entry in shard.tensors}
        found = {name: one for name, one in gone.items() if name in here}
        if not found:
            return {}
        rest = {name: edit for name, edit in self.edits.items() if name in here and name not in found}
        for name, other in rest.items():
            found[name] = Replacement(name, here[name].dtype, here[name].shape, partial(other.expected, original))
        return found

    def weight_map(self, original: Checkpoint) -> dict[str, str]:
        """Return the file of every tensor of the edited checkpoint."""
        files = {name: entry.shard for name, entry in original.tensors.items()}
        files |= {edit.name: files[edit.weight.tensors.values] for edit in self.unquantized_edits()}
        return {name: files[name] for name in self.layout(original)}


def make_plan(
    recipe: Recipe,
    direction: Float[Tensor, "*k d_model"],
    architecture: Architecture,
    model: PreTrainedModel,
    checkpoint: Checkpoint,
    edited_dtype: str | None = None,
) -> EditPlan:
    """Resolve `recipe` on `checkpoint`. `model` may be on the meta device; it gives names and shapes, unquantised.

    `direction` is a vector, or rows `[k, d_model]`, which become orthonormal in their order; lengths do not count. Quantised weights keep their format, unless `edited_dtype` (a word of `loading.DTYPES`) says what to write them in.
    Raises InputError when the direction belongs to another width or nothing is quantised that `edited_dtype` could
    apply to, and for a direction that is zero or not finite; CheckpointError when a writer is missing or has another shape, ArchitectureError when its layout on disk
    is not understood.
    """
    edited_dtype = check_edited_dtype(edited_dtype, checkpoint)
    edited = None if edited_dtype is None else getattr(torch, edited_dtype)
    basis = unit_rows(direction, architecture.d_model).detach().cpu()
    if recipe.addition is not None:
        return plan_addition(recipe, *recipe.addition, basis, architecture, model, checkpoint)
    recipe.check(architecture.depth, len(basis))
    stored = Stored.of(model, checkpoint)
    edits: dict[str, TensorEdit] = {}
    modules: dict[str, None] = {}
    for writer in architecture.writers:
        strength = recipe.strength(writer.site, writer.layer)
        if not strength:
            continue
        own, amount = writer.removal(basis, strength, stored.read)
        for place in [place for parameter in writer.parameters for place in stored.places(writer, parameter)]:
            check_axis(place, architecture.d_model)
            common = (writer.site, writer.layer, place.axis, amount, own)
            if place.weight is not None and recipe.form != "projection":
                raise InputError(
                    f"{place.name}: is quantised, and keeping lengths is for plain weights; leave --edit-form away"
                )
            if place.weight is None:
                kind = ColumnsEdit if recipe.form == "columns" else TensorEdit
                edits[place.name] = kind(place.name, *common)
            elif edited is None:
                edits |= quantized_edits(place.weight, common)
            else:
                edits[place.name] = UnquantizedEdit(place.name, *common, place.weight, edited)
                edits |= {edit.name: edit for edit in unquantized_beside(stored, writer, own, edited)}
                modules |= dict.fromkeys(module_names(writer, place))
    if not edits:
        raise InputError("the recipe edits nothing: every strength is 0; give --strength or --sites")
    if edited_dtype and not modules:
        raise InputError(f"--edited-dtype {edited_dtype}: no weight that the recipe edits is quantised; leave it out")
    never = tuple(sorted(get_keys_to_not_convert(model))) if modules else ()
    return EditPlan(edits, recipe, basis, stored.left_alone(), edited_dtype, tuple(modules), never)


def plan_addition(
    recipe: Recipe,
    layer: int,
    length: float,
    basis: Float[Tensor, "1 d_model"],
    architecture: Architecture,
    model: PreTrainedModel,
    checkpoint: Checkpoint,
) -> EditPlan:
    """Resolve a recipe that adds: the edit of one bias, or none where the architecture has none there.

    Raises InputError for a layer that the model has not, ArchitectureError where nothing can hold the addition exactly.
    """
    bias_sites = find_bias_sites(model, architecture)
    if layer not in bias_sites:
        raise InputError(
            f"nothing can be added to {recipe.direction}; choose among layers {', '.join(map(str, bias_sites))}"
        )
    bias_site = bias_sites[layer]
    addition = Addition(bias_site, layer, length)
    stored = Stored.of(model, checkpoint)
    edits: dict[str, TensorEdit] = {}
    for place in stored.places(bias_site.writer, bias_site.bias) if bias_site.bias else ():
        check_axis(place, architecture.d_model)
        if place.weight is not None:
            raise InputError(f"{place.name}: is quantised, and nothing is added to quantised biases")
        writer = bias_site.writer
        edits[place.name] = AddedEdit(place.name, writer.site, writer.layer, place.axis, addition.strength, basis)
    return EditPlan(edits, recipe, basis, stored.left_alone(), addition=addition)


Common = tuple[Site, int | None, int, Amount, Float[Tensor, "k d_model"]]
"""What all edits of one tensor share: site, layer, axis, strength, basis."""


def quantized_edits(weight: QuantizedWeight, common: Common) -> dict[str, TensorEdit]:
    """Return the edits of both tensors of a quantised weight."""
    values, scales = weight.tensors.values, weight.tensors.scales
    return {values: ValuesEdit(values, *common, weight), scales: ScalesEdit(scales, *common, weight)}


def unquantized_beside(
    stored: Stored, writer: Writer, basis: Float[Tensor, "k d_model"], dtype: torch.dtype
) -> Iterator[UnquantizedEdit]:
    """Yield what else has to leave its quantised format with a writer: a module is quantised as a whole."""
    for weight in stored.beside(writer):
        yield UnquantizedEdit(weight.tensors.parameter, writer.site, writer.layer, -1, 0.0, basis, weight, dtype)


def module_names(writer: Writer, place: StoredPlace) -> list[str]:
    """Return what the config calls the module of a writer: its name in memory, and that on disk if it is another."""
    if place.converted or not place.name.endswith(".weight"):
        return [writer.module]
    return list(dict.fromkeys([writer.module, place.name.removesuffix(".weight")]))


def check_axis(place: StoredPlace, d_model: int) -> None:
    """Raise ArchitectureError when the axis to edit along is not as long as the residual stream is wide."""
    if place.shape[place.axis] != d_model:
        raise ArchitectureError(
            f"{place.name}: axis {place.axis} of {place.shape} is not the residual stream of width {d_model}; "
            "please report it"
        )


def check_edited_dtype(edited_dtype: str | None, checkpoint: Checkpoint) -> str | None:
    """Return torch's name of `edited_dtype`, None where quantised weights keep their format, as with `auto`.

    Raises InputError for an unknown word, or one that has nothing to apply to.
    """
    name = dtype_name("--edited-dtype", edited_dtype or "auto")
    if name == "auto":
        return None
    if not quantized_weights(checkpoint):
        raise InputError(f"--edited-dtype {edited_dtype}: the weights are not quantised; leave it out")
    return name


def left_alone_note(names: Sequence[str]) -> tuple[str, ...]:
    """Return one line about tensors that the model does not load, or none."""
    if not names:
        return ()
    return (f"{len(names)} tensors that the model does not load are left as they were, such as {names[0]}",)
