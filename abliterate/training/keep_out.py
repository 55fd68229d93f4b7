"""Keeps a direction out of the weights while a model trains: after every optimiser step, what training wrote along it
is projected out again.

Under plain SGD, with or without momentum, that is training under `ablated` to the last step, since both see the
gradient `P g`. Under Adam it is projected gradient descent: each step is a plain one, then the projection.

In a LoRA the writer's delta `B A` loses its component when `B` does, so that base and adapter are silent each by
itself, and so is what they are merged to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from abliterate.architectures.architecture import Architecture, Writer, find_architecture
from abliterate.architectures.wrappers import (
    Matrix,
    adapters_of,
    inside,
    is_embedding,
    live_parameter,
    peft_classes,
    tied_head,
    unwrapped,
)
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.projection import component, project_out, rounding_of, unit_rows

ROUNDING = 16
"""A frozen writer holds the direction when its component is larger than so many roundings of a random one."""


@dataclass(frozen=True)
class Trained:
    """A tensor that training changes and that writes to the residual stream along `axis`, and whose writer it is."""

    name: str
    tensor: nn.Parameter
    axis: int
    writer: Writer


class KeepDirectionOut(TrainerCallback):  # type: ignore[misc]
    """A callback of `transformers.Trainer` that keeps `direction` out of a model that it was removed from.

        orthogonalize(model, direction)
        Trainer(model, ..., callbacks=[KeepDirectionOut(direction)])

    `direction` is a vector of any length, or rows that span what is kept out; `recipe` says which writers are kept silent (all by default).
    Weights, LoRA matrices and `modules_to_save` that training changes are projected after every optimiser step,
    before anything is evaluated or saved; with gradient accumulation that is once for all its batches. The result is
    exact in float32 and to one rounding in bfloat16. In an own training loop, call `begin` once and `project` after
    each step.

    Examples:
        >>> model = orthogonalize(model, directions[4])
        >>> keep = KeepDirectionOut(directions[4])
        >>> keep.begin(model)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> tokens = tokenizer("How do I bake bread?", return_tensors="pt")["input_ids"]
        >>> model(input_ids=tokens, labels=tokens).loss.backward()
        >>> optimizer.step()  # writes along the direction again
        >>> written = model.model.layers[0].mlp.down_proj.weight
        >>> before = (directions[4] @ written).norm()
        >>> keep.project()
        >>> bool((directions[4] @ written).norm() < 1e-4 * before)
        True
    """

    def __init__(self, direction: Float[Tensor, "*k d_model"], recipe: Recipe | None = None) -> None:
        self.basis: Float[Tensor, "k d_model"] = unit_rows(direction).detach().cpu()
        self.recipe = recipe or Recipe.uniform()
        self.model: nn.Module | None = None
        self.trained: tuple[Trained, ...] = ()

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **kwargs: Any
    ) -> None:
        """Find what is trained. Raises InputError as `begin`, and where weights are cut into shards."""
        assert model is not None
        if getattr(args, "deepspeed", None) or getattr(args, "fsdp", None):
            raise InputError(
                "weights that DeepSpeed or FSDP cuts into shards cannot be projected; train on one device, or under DDP"
            )
        self.begin(model)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Project, between the optimiser's step and whatever looks at its result."""
        self.project()

    def begin(self, model: nn.Module) -> None:
        """Find the tensors of `model` (a PeftModel too) that training changes and that write, and project them.

        Raises InputError when the direction belongs to another model or a frozen writer still holds it, for adapters
        other than plain LoRA on a writer, and for a strength other than 1 on a weight that is trained itself.
        """
        base = base_model(model)
        found = find_architecture(base)
        unit_rows(self.basis, found.d_model)
        self.recipe.check(found.depth)
        self.model = base
        self.trained = tuple(self._find(base, found))
        self.project()

    def project(self) -> None:
        """Project what is trained, in place. Gains behind the writers, which may be trained too, are read anew."""
        assert self.model is not None, "call begin(model) first"
        with torch.no_grad():
            for one in self.trained:
                one.tensor.copy_(project_out(one.tensor, self._basis(self.model, one.writer), 1.0, one.axis))

    def _basis(self, model: nn.Module, writer: Writer) -> Float[Tensor, "more d_model"]:
        return writer.basis(self.basis, lambda name: live_parameter(model, name))

    def _find(self, model: nn.Module, architecture: Architecture) -> Iterator[Trained]:
        """Yield what is trained and writes; refuse what could not be kept silent."""
        for writer in architecture.writers:
            strength = self.recipe.strength(writer.site, writer.layer)
            if not strength:
                continue
            modules = inside(writer.module, model.get_submodule(writer.module))
            gains = {gain.parameter for path in writer.paths for gain in path if gain.parameter}
            moving = sorted(name for name in gains if live_parameter(model, name).requires_grad)
            for parameter in writer.parameters:
                for name, module in modules:
                    tensor = module._parameters.get(parameter.name)
                    if tensor is None:
                        continue
                    label = f"{name}.{parameter.name}"
                    if tensor.requires_grad:
                        if strength != 1:
                            shown = "other than 1" if isinstance(strength, tuple) else f"{strength:g}"
                            raise InputError(
                                f"{label} is trained, and edited at strength {shown}: only strength 1 can be kept "
                                "while the weight itself is trained; train a LoRA"
                            )
                        yield Trained(label, tensor, parameter.axis, writer)
                    elif moving:
                        raise InputError(
                            f"{moving[0]} is trained and stands behind {label}, which is not: the direction would come "
                            "back; train both or neither"
                        )
                    elif strength == 1:
                        check_frozen(label, tensor, self._basis(model, writer), parameter.axis)
                for name, module in modules:
                    yield from trained(adapters_of(name, module, parameter.name, parameter.axis), writer)
            if (
                architecture.tied
                and architecture.head
                and writer.site == "embed"
                and is_embedding(model, writer.module)
            ):
                head = inside(architecture.head, model.get_submodule(architecture.head))
                yield from trained(tied_head(head), writer)


def trained(found: Iterator[Matrix], writer: Writer) -> Iterator[Trained]:
    """Yield those of some matrices that training changes."""
    yield from (Trained(one.name, one.tensor, one.axis, writer) for one in found if one.tensor.requires_grad)


def check_frozen(label: str, tensor: Tensor, basis: Float[Tensor, "k d_model"], axis: int) -> None:
    """Raise InputError when a writer that is not trained holds the direction."""
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        return  # a quantised base: what its rounding left is not training's to change
    share = math.sqrt(len(basis) / tensor.shape[axis])
    stored = tensor.to(dtype_of_numbers(tensor))  # an edit that was written in two bytes, and loaded in four
    if component(tensor, basis, axis) > ROUNDING * share * rounding_of(stored):
        raise InputError(f"{label} is not trained and holds the direction; call orthogonalize(model, direction) first")


def dtype_of_numbers(tensor: Tensor) -> torch.dtype:
    """Return the dtype of two bytes in which every number of a tensor stays what it is, as after loading it from one; else its own."""
    for dtype in (torch.bfloat16, torch.float16):
        if tensor.dtype.itemsize > 2 and torch.equal(tensor.to(dtype).to(tensor.dtype), tensor):
            return dtype
    return tensor.dtype


def base_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside of what is trained.

    Raises InputError for adapters other than LoRA: what they put into the stream is no product that can be projected.
    """
    for one in model.modules():
        if isinstance(one, peft_classes("PeftModel")):
            configs: Any = one.peft_config
            kinds = {str(getattr(config.peft_type, "value", config.peft_type)) for config in configs.values()}
            if kinds != {"LORA"}:
                raise InputError(f"an adapter of type {', '.join(sorted(kinds))} cannot be kept silent; use LoRA")
    return unwrapped(model)
