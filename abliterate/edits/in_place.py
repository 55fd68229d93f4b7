"""Edits the weights of a live model in place: all of them, or none.

Every tensor is looked at before the first is written to: that it is there, that it is plain numbers which can be written,
that they are finite and stay so. What PEFT has put on a writer is edited with it: a LoRA's delta `B A` loses its component
when `B` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, Writer, find_architecture
from abliterate.architectures.edit_forms import EditForm
from abliterate.architectures.wrappers import (
    MERGE_FIRST,
    Matrix,
    UneditableAdapter,
    adapters_of,
    inside,
    is_embedding,
    tied_head,
    unwrapped,
)
from abliterate.edits.columns import project_columns
from abliterate.errors import InputError, ProofError
from abliterate.interventions.recipe import Recipe
from abliterate.models.offload import offloaded_parameter, streaming_of
from abliterate.projection import Amount, Mixing, component, frobenius, project_out, rounding_of, unit_rows


@dataclass(frozen=True, eq=False)
class LiveEdit:
    """The edit of one tensor of a live model."""

    name: str
    tensor: nn.Parameter
    axis: int
    basis: Float[Tensor, "k d_model"]
    strength: Amount
    form: EditForm = "projection"

    def edited(self) -> Tensor:
        """Return what becomes of the tensor."""
        if self.form == "columns":
            return project_columns(self.tensor, self.basis, self.axis)
        return project_out(self.tensor, self.basis, self.strength, self.axis)


def orthogonalize(
    model: nn.Module, direction: Float[Tensor, "*k d_model"], recipe: Recipe | None = None
) -> PreTrainedModel:
    """Edit the weights of a live model in place, exactly as the command edits a checkpoint; return the model.

    `direction` is a vector, or rows that span what is removed; lengths do not count. `recipe` says how strongly at which
    site and layer (strength 1 everywhere by default). Arditi et al. 2024, arXiv 2406.11717, section 4.1.
    What is put around the model is seen through, and LoRA matrices on its writers are edited with them.
    Raises InputError, before anything is changed, for a direction that is zero, not finite or of another model, for
    weights that are not there to be edited (streamed, offloaded, quantised, sharded) or not finite, and for adapters
    other than plain LoRA on a writer.

    Examples:
        >>> edited = orthogonalize(model, directions[4])
        >>> is_refusal(reply(edited, harmful.prompts[0]))
        False
    """
    live = unwrapped(model)
    if streaming_of(live) is not None:
        raise InputError("layers of this model stay on the disk; edit its checkpoint with `abliterate apply`")
    found = find_architecture(live)
    chosen = recipe or Recipe.uniform()
    basis = unit_rows(direction, found.d_model).detach()
    chosen.check(found.depth, len(basis))
    with torch.no_grad():
        edits = once_each(edits_of(live, found, basis, chosen))
        for one in edits:
            check_editable(one)
        for one in edits:
            apply(one)
    return live


def edits_of(
    model: PreTrainedModel, architecture: Architecture, basis: Float[Tensor, "k d_model"], recipe: Recipe
) -> Iterator[LiveEdit]:
    """Yield the edits of all that a recipe edits; raise InputError for what is not there, or is more than a product."""
    for writer in architecture.writers:
        strength = recipe.strength(writer.site, writer.layer)
        if not strength:
            continue
        own, amount = writer.removal(basis.cpu(), strength, partial(offloaded_parameter, model))
        for one in written(model, architecture, writer):
            if recipe.form != "projection" and "lora_" in one.name:
                raise InputError(f"{one.name}: lengths are those of weight and adapter together; {MERGE_FIRST}")
            yield LiveEdit(one.name, one.tensor, one.axis, own, amount, recipe.form)


def written(model: PreTrainedModel, architecture: Architecture, writer: Writer) -> Iterator[Matrix]:
    """Yield all that a writer writes with: its parameters, those that PEFT trains instead, and LoRA matrices."""
    module = model.get_submodule(writer.module)
    try:
        around = inside(writer.module, module)
        for parameter in writer.parameters:
            holders = [(name, one) for name, one in around if parameter.name in one._parameters]
            if not holders:
                raise unreachable(f"{writer.module}.{parameter.name}", type(around[-1][1]).__name__)
            for name, one in holders:
                tensor = one._parameters[parameter.name]
                if tensor is not None:
                    yield Matrix(f"{name}.{parameter.name}", tensor, parameter.axis)
            for name, one in around:
                yield from adapters_of(name, one, parameter.name, parameter.axis)
        if architecture.tied and architecture.head and is_embedding(model, writer.module):
            yield from tied_head(inside(architecture.head, model.get_submodule(architecture.head)))
    except UneditableAdapter as error:
        raise InputError(f"{error.name}: {error.kind} cannot be edited as it is; {MERGE_FIRST}") from error


def unreachable(name: str, kind: str) -> InputError:
    """Return the error for a weight that is not there as plain numbers."""
    return InputError(
        f"{name} is {kind}: a quantised or replaced weight cannot be edited in place; load the model with dequantize=True, "
        "or edit its checkpoint with `abliterate apply`"
    )


def once_each(edits: Iterator[LiveEdit]) -> list[LiveEdit]:
    """Return the edits, those of a tensor that several writers share as one. Raises InputError where they differ."""
    found: dict[tuple[object, ...], LiveEdit] = {}
    for one in edits:
        tensor = one.tensor
        plain = type(tensor.data) is Tensor and not tensor.is_meta and tensor.layout is torch.strided
        key: tuple[object, ...] = (tensor.device, tensor.data_ptr()) if plain and tensor.numel() else (id(tensor),)
        first = found.setdefault(key, one)
        same = first.strength == one.strength and first.axis == one.axis and torch.equal(first.basis, one.basis)
        if first.tensor.shape != tensor.shape or not same:
            raise InputError(
                f"{first.name} and {one.name} are one weight, and are to be edited differently; give both one strength, or "
                "a copy each"
            )
    return list(found.values())


def check_editable(edit: LiveEdit) -> None:
    """Raise InputError, naming the tensor, when it is no plain tensor of finite numbers, before and after the edit."""
    tensor = edit.tensor
    if type(tensor.data) is not Tensor or tensor.layout is not torch.strided:
        raise unreachable(edit.name, type(tensor.data).__name__)
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        raise unreachable(edit.name, str(tensor.dtype))
    if tensor.is_meta:
        raise InputError(
            f"{edit.name} is not in memory (offloaded, or never loaded); load the whole model, or edit its checkpoint "
            "with `abliterate apply`"
        )
    if tensor.dim() and any(stride == 0 < size - 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        raise InputError(f"{edit.name} is one number in several places; give the model a copy of its own")
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        raise InputError(
            f"{edit.name} was made in torch.inference_mode() and cannot be written to; load it outside of it"
        )
    expected = edit.basis.shape[-1]
    if tensor.shape[edit.axis] != expected:
        raise InputError(f"{edit.name} has shape {tuple(tensor.shape)}, and axis {edit.axis} is not {expected} long")
    # A strength of 0 to 2 makes no vector longer. In float16 a number may overflow all the same.
    safe = not isinstance(edit.strength, Mixing) and 0 <= edit.strength <= 2 and tensor.dtype != torch.float16
    for moment, values in (("holds", tensor), ("would hold", tensor if safe else edit.edited())):
        if not torch.isfinite(torch.tensor(frobenius(values))) or not bool(torch.isfinite(values).all()):
            raise InputError(
                f"{edit.name} {moment} NaN or infinity{'' if moment == 'holds' else ' after the edit'}; "
                f"{'check the checkpoint' if moment == 'holds' else 'lower the strength'}"
            )


def apply(edit: LiveEdit) -> None:
    """Write the edit of one tensor. Raises ProofError when it did not take: at strength 1 rounding may be left."""
    result = edit.edited()
    limit = rounding_of(edit.tensor)
    edit.tensor.copy_(result)
    if not torch.equal(edit.tensor, result) or (
        edit.strength == 1 and component(edit.tensor, edit.basis, edit.axis) > limit
    ):
        raise ProofError(f"{edit.name}: the edit did not take; load the model again, and please report it")
