"""The plan: a recipe resolved on one checkpoint, as a list of tensor edits. Nothing is written here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from abliterate.architecture import Architecture, Parameter, Site, Writer
from abliterate.checkpoint import Checkpoint, TensorEntry
from abliterate.errors import ArchitectureError, CheckpointError, InputError
from abliterate.layout import stored_names
from abliterate.projection import Projection, project_out
from abliterate.recipe import Recipe


@dataclass(frozen=True)
class TensorEdit:
    """One tensor on disk, the axis of its residual stream, and what is removed along it."""

    name: str
    site: Site
    layer: int | None
    axis: int
    strength: float
    basis: Float[Tensor, "k d_model"]

    @property
    def projection(self) -> Projection | None:
        """The edit as a projection, which is computed piece by piece; None where it needs the whole tensor (`apply`)."""
        return Projection(self.basis, self.strength, self.axis)

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the edited tensor, in its own dtype."""
        return project_out(tensor, self.basis, self.strength, self.axis)


@dataclass(frozen=True)
class EditPlan:
    """Every edit that a recipe makes in one checkpoint, by tensor name; `basis` is what the stream loses.

    `left_alone` are tensors that the model does not load, such as heads that predict several tokens at once.
    """

    edits: dict[str, TensorEdit]
    recipe: Recipe
    basis: Float[Tensor, "k d_model"]
    left_alone: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Return a SHA-256 over everything that decides the written bytes, source apart."""
        whole = hashlib.sha256()
        for edit in self.edits.values():
            whole.update(json.dumps([edit.name, edit.axis, edit.strength]).encode())
            whole.update(edit.basis.contiguous().numpy().tobytes())
        return whole.hexdigest()

    def stored_dtype(self, checkpoint: Checkpoint) -> torch.dtype:
        """Return the coarsest dtype that an edited tensor is stored in: what rounding it explains."""
        dtypes = {checkpoint.tensors[name].torch_dtype for name in self.edits}
        return max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)


def make_plan(
    recipe: Recipe,
    direction: Float[Tensor, "*k d_model"],
    architecture: Architecture,
    model: PreTrainedModel,
    checkpoint: Checkpoint,
) -> EditPlan:
    """Resolve `recipe` on `checkpoint`. `model` may be on the meta device; it gives names and shapes.

    Raises InputError when the direction belongs to another width, CheckpointError when a writer is missing or has
    another shape, ArchitectureError when its layout on disk is not understood.
    """
    recipe.check(architecture.depth)
    basis = direction.reshape(-1, direction.shape[-1]).float().cpu()
    if basis.shape[-1] != architecture.d_model:
        raise InputError(
            f"the direction has d_model {basis.shape[-1]}, the model {architecture.d_model}; it belongs to another model"
        )
    stored = Stored(model, checkpoint, stored_names(model, checkpoint.tensors))
    edits: dict[str, TensorEdit] = {}
    for writer in architecture.writers:
        strength = recipe.strength(writer.site, writer.layer)
        if strength:
            own = writer.basis(basis, stored.read)
            for parameter in writer.parameters:
                for entry, axis in stored.tensors(writer, parameter):
                    if entry.shape[axis] != architecture.d_model:
                        raise ArchitectureError(
                            f"{entry.name}: axis {axis} of {tuple(entry.shape)} is not the residual stream of width "
                            f"{architecture.d_model}; please report it"
                        )
                    edits[entry.name] = TensorEdit(entry.name, writer.site, writer.layer, axis, strength, own)
    if not edits:
        raise InputError("the recipe edits nothing: every strength is 0; give --strength or --sites")
    loaded = {name for one in stored.names.values() for name, _ in one}
    return EditPlan(edits, recipe, basis, tuple(name for name in checkpoint.tensors if name not in loaded))


@dataclass(frozen=True)
class Stored:
    """The parameters of a model as a checkpoint holds them; `names` as `layout.stored_names` gives them."""

    model: PreTrainedModel
    checkpoint: Checkpoint
    names: Mapping[str, list[tuple[str, bool]]]

    def read(self, name: str) -> Tensor:
        """Read a parameter that is stored as it is. Raises CheckpointError when it is not there."""
        return self.checkpoint.read(self.checked(self.named(name)[0], self.model.get_parameter(name).shape).name)

    def named(self, name: str) -> list[str]:
        """Return the names on disk of a parameter, those of parameters that are tied to it included."""
        parameter = self.model.get_parameter(name)
        same = [other for other, one in self.model.named_parameters(remove_duplicate=False) if one is parameter]
        found = [stored for other in same for stored, _ in self.names.get(other, [])]
        if not found:
            raise CheckpointError(
                f"{self.checkpoint.folder}: tensor {name}, which writes to the residual stream, is missing; "
                "download the model again"
            )
        return found

    def tensors(self, writer: Writer, parameter: Parameter) -> Iterator[tuple[TensorEntry, int]]:
        """Yield the tensors that store a writer's parameter, each with its residual axis."""
        name = f"{writer.module}.{parameter.name}"
        converted = {stored: is_converted for one in self.names.values() for stored, is_converted in one}
        for stored in self.named(name):
            shape, axis = self.model.get_parameter(name).shape, parameter.axis
            if converted[stored]:
                if parameter.stored_axis is None:
                    raise ArchitectureError(
                        f"{stored}: is stored together with tensors that do not write; not supported yet"
                    )
                shape, axis = converted_shape(self.model, name), parameter.stored_axis
            yield self.checked(stored, shape), axis

    def checked(self, stored: str, shape: Sequence[int]) -> TensorEntry:
        """Return the entry of a tensor after a look at its shape and dtype."""
        entry = self.checkpoint.tensors[stored]
        if (
            tuple(entry.shape) != tuple(shape)
            or not entry.torch_dtype.is_floating_point
            or entry.torch_dtype.itemsize < 2
        ):
            raise CheckpointError(
                f"{self.checkpoint.folder}: tensor {stored} is {entry.dtype} {tuple(entry.shape)}, expected floats "
                f"{tuple(shape)}; config and weights belong to different models, or the weights are quantised"
            )
        return entry


def left_alone_note(names: Sequence[str]) -> tuple[str, ...]:
    """Return one line about tensors that the model does not load, or none."""
    if not names:
        return ()
    return (f"{len(names)} tensors that the model does not load are left as they were, such as {names[0]}",)


def converted_shape(model: PreTrainedModel, name: str) -> tuple[int, ...]:
    """Return the shape of the tensors that a parameter is stored as, where loading converts them."""
    stored = revert_weight_conversion(model, {name: model.get_parameter(name).detach().to("meta")})
    return tuple(next(iter(stored.values())).shape)
