"""The plan: a recipe resolved on one checkpoint, as a list of tensor edits. Nothing is written here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architecture import Architecture, Site, Writer, disk_name
from abliterate.checkpoint import Checkpoint, TensorEntry
from abliterate.errors import CheckpointError, InputError
from abliterate.projection import fold_gain, project_out
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

    def apply(self, tensor: Tensor) -> Tensor:
        """Return the edited tensor, in its own dtype."""
        return project_out(tensor, self.basis, self.strength, self.axis)


@dataclass(frozen=True)
class EditPlan:
    """Every edit that a recipe makes in one checkpoint, by tensor name; `basis` is what the stream loses."""

    edits: dict[str, TensorEdit]
    recipe: Recipe
    basis: Float[Tensor, "k d_model"]

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
    edits: dict[str, TensorEdit] = {}
    for writer in architecture.writers:
        strength = recipe.strength(writer.site, writer.layer)
        if strength:
            own = folded(basis, writer, model, checkpoint)
            for parameter, axis in writer.parameters:
                entry = stored(f"{writer.module}.{parameter}", model, checkpoint)
                edits[entry.name] = TensorEdit(entry.name, writer.site, writer.layer, axis, strength, own)
    if architecture.tied and architecture.head and recipe.strength("embed", None):
        # Some checkpoints store the tied head a second time; both copies must stay the same.
        name = f"{architecture.head}.weight"
        if name in checkpoint.tensors and name not in edits:
            edits[name] = TensorEdit(name, "embed", None, -1, recipe.strength("embed", None), basis)
    if not edits:
        raise InputError("the recipe edits nothing: every strength is 0; give --strength or --sites")
    return EditPlan(edits, recipe, basis)


def folded(
    basis: Float[Tensor, "k d_model"], writer: Writer, model: PreTrainedModel, checkpoint: Checkpoint
) -> Float[Tensor, "k d_model"]:
    """Return what to remove from this writer: the basis, or what the norm behind the writer makes of it."""
    if writer.norm is None:
        return basis
    entry = stored(f"{writer.norm.module}.weight", model, checkpoint)
    return fold_gain(basis, writer.norm.gain(checkpoint.read(entry.name)), writer.norm.centred)


def stored(name: str, model: PreTrainedModel, checkpoint: Checkpoint) -> TensorEntry:
    """Return where a parameter in memory lies on disk."""
    on_disk = disk_name(model, name)
    # Checkpoints saved from the bare decoder lack its prefix; transformers adds it when loading.
    short = on_disk.removeprefix(f"{model.base_model_prefix}.")
    entry = checkpoint.tensors.get(on_disk) or checkpoint.tensors.get(short)
    if entry is None:
        raise CheckpointError(
            f"{checkpoint.folder}: tensor {on_disk}, which writes to the residual stream, is missing; download the model again"
        )
    shape = tuple(model.get_parameter(name).shape)
    if tuple(entry.shape) != shape or not entry.torch_dtype.is_floating_point or entry.torch_dtype.itemsize < 2:
        raise CheckpointError(
            f"{checkpoint.folder}: tensor {entry.name} is {entry.dtype} {tuple(entry.shape)}, expected floats {shape}; "
            "config and weights belong to different models, or the weights are quantised"
        )
    return entry
