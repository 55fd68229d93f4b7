"""Keeps a direction out of the weights while a model trains: after every optimiser step, what training wrote along it
is projected out again.

Under plain SGD, with or without momentum, that is training under `ablated` to the last step, since both see the
gradient `P g`. Under Adam it is projected gradient descent: each step is a plain one, then the projection.

In a LoRA the writer's delta `B A` loses its component when `B` does, so that base and adapter are silent each by
itself, and so is what they are merged to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from abliterate.architecture import Architecture, Writer, find_architecture
from abliterate.errors import InputError
from abliterate.projection import component, frobenius, project_out
from abliterate.recipe import Recipe

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

    `direction` is a unit vector, or orthonormal rows; `recipe` says which writers are kept silent (all by default).
    Weights, LoRA matrices and `modules_to_save` that training changes are projected after every optimiser step,
    before anything is evaluated or saved; with gradient accumulation that is once for all its batches. The result is
    exact in float32 and to one rounding in bfloat16. In an own training loop, call `begin` once and `project` after
    each step.
    """

    def __init__(self, direction: Float[Tensor, "*k d_model"], recipe: Recipe | None = None) -> None:
        self.basis: Float[Tensor, "k d_model"] = direction.reshape(-1, direction.shape[-1]).detach().float().cpu()
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
        found = architecture_of(base)
        if self.basis.shape[-1] != found.d_model:
            raise InputError(
                f"the direction has d_model {self.basis.shape[-1]}, the model {found.d_model}; it belongs to another model"
            )
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
            modules = unwrapped(model, writer.module)
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
                            raise InputError(
                                f"{label} is trained, and edited at strength {strength:g}: only strength 1 can be kept "
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
                    yield from adapters_of(name, module, writer, parameter.name, parameter.axis)
            if architecture.tied and architecture.head and writer.site == "embed" and is_embedding(model, writer):
                yield from tied_head(unwrapped(model, architecture.head), writer)


def check_frozen(label: str, tensor: Tensor, basis: Float[Tensor, "k d_model"], axis: int) -> None:
    """Raise InputError when a writer that is not trained holds the direction."""
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        return  # a quantised base: what its rounding left is not training's to change
    usual = frobenius(tensor) * math.sqrt(len(basis) / tensor.shape[axis])
    if component(tensor, basis, axis) > ROUNDING * torch.finfo(tensor.dtype).eps * usual:
        raise InputError(f"{label} is not trained and holds the direction; call orthogonalize(model, direction) first")


def base_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside of a PeftModel, or the model itself.

    Raises InputError for adapters that put vectors of their own into the stream.
    """
    if find_spec("peft") is None:
        return model
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        return model
    kinds = {str(getattr(config.peft_type, "value", config.peft_type)) for config in model.peft_config.values()}
    if kinds != {"LORA"}:
        raise InputError(f"an adapter of type {', '.join(sorted(kinds))} cannot be kept silent; use LoRA")
    base: PreTrainedModel = model.get_base_model()
    return base


def architecture_of(model: PreTrainedModel) -> Architecture:
    """Return the writers of a model by the names that it has without adapters."""
    with torch.device("meta"):
        empty = type(model)(model.config)
    return find_architecture(empty)


def unwrapped(model: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """Return a module with all that PEFT has put around it, from the outside in, and the copies that it trains instead."""
    module = model.get_submodule(name)
    if find_spec("peft") is None:
        return [(name, module)]
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

    found: list[tuple[str, nn.Module]] = []
    waiting = [(name, module)]
    while waiting:
        label, one = waiting.pop(0)
        found.append((label, one))
        if isinstance(one, ModulesToSaveWrapper):
            waiting += [(f"{label}.modules_to_save.{key}", copy) for key, copy in one.modules_to_save.items()]
            waiting.append((f"{label}.original_module", one.original_module))
        elif isinstance(one, AuxiliaryTrainingWrapper):
            raise InputError(f"{label} is trained token by token, which cannot be kept silent; put LoRA on it")
        elif isinstance(one, BaseTunerLayer):
            waiting.append((f"{label}.base_layer", one.base_layer))
    return found


def live_parameter(model: nn.Module, name: str) -> Tensor:
    """Return the parameter of this name that the model computes with, wherever PEFT has put it."""
    module, _, own = name.rpartition(".")
    for _, one in unwrapped(model, module):
        value = one._parameters.get(own)
        if value is not None:
            return value
    raise InputError(f"{name}: the model has no such parameter; please report it")


def adapters_of(name: str, module: nn.Module, writer: Writer, parameter: str, axis: int) -> Iterator[Trained]:
    """Yield the LoRA matrices on the residual side of one parameter of a writer.

    Raises InputError for adapters whose delta is more than a product of two matrices.
    """
    if find_spec("peft") is None:
        return
    from peft.tuners.lora import LoraLayer, ParamWrapper
    from peft.tuners.tuners_utils import BaseTunerLayer

    if not isinstance(module, BaseTunerLayer):
        return
    if not isinstance(module, LoraLayer) or module.lora_variant:
        kind = ", ".join(type(one).__name__ for one in getattr(module, "lora_variant", {}).values())
        raise InputError(f"{name} is a {kind or type(module).__name__}, which cannot be kept silent; use plain LoRA")
    target = getattr(module, "parameter_name", "weight")
    if target != parameter:
        return
    side, matrix_axis = "lora_B", 0
    if isinstance(module, ParamWrapper):
        # PEFT writes [expert, out, in] unless the layer says that it is stored as [expert, in, out].
        turned = module.get_param().dim() == 3 and getattr(module.get_base_layer(), "is_transposed", False)
        if axis % module.get_param().dim() != (-1 if turned else -2) % module.get_param().dim():
            side, matrix_axis = "lora_A", -1
    for key, layer in getattr(module, side).items():
        yield from trained_parameters(f"{name}.{side}.{key}", layer, writer, matrix_axis)
    for key, matrix in module.lora_embedding_B.items():
        if matrix.requires_grad:
            yield Trained(f"{name}.lora_embedding_B.{key}", matrix, 0, writer)


def trained_parameters(name: str, layer: nn.Module, writer: Writer, axis: int) -> Iterator[Trained]:
    """Yield the trained parameters of one LoRA matrix: its weight, and its bias where it has one."""
    for own, tensor in layer.named_parameters():
        if tensor.requires_grad:
            yield Trained(f"{name}.{own}", tensor, 0 if own == "bias" else axis, writer)


def is_embedding(model: PreTrainedModel, writer: Writer) -> bool:
    """Tell whether a writer is the token embedding."""
    embedding = model.get_input_embeddings()
    return any(one is embedding for _, one in unwrapped(model, writer.module))


def tied_head(modules: Sequence[tuple[str, nn.Module]], writer: Writer) -> Iterator[Trained]:
    """Yield what is trained of a head that shares the embedding's weight: merged, it is written to the stream too."""
    for name, module in modules:
        for key, layer in getattr(module, "lora_A", {}).items():
            yield from trained_parameters(f"{name}.lora_A.{key}", layer, writer, -1)
        if ".modules_to_save." in name:
            yield from trained_parameters(name, module, writer, -1)
