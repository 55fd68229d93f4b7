"""What others put around a model, or around modules of it: seen through here, and nowhere else.

Around a model: torch.compile, DataParallel and DDP, DeepSpeed's engine, PEFT, a value head. Around modules: PEFT's
layers and its `modules_to_save`, compiled parts, checkpointed ones. Names are always those of the model alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from abliterate.errors import InputError

SHELLS = ("_orig_mod", "_checkpoint_wrapped_module")
"""How modules that stand for another call it: torch.compile's, and those that torch recomputes. Both pass its names on."""

MERGE_FIRST = "call merge_and_unload() on the model first"


class UneditableAdapter(InputError):
    """What PEFT has put on a module is more than a product of two matrices."""

    def __init__(self, name: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.name, self.kind = name, kind


@dataclass(frozen=True)
class Matrix:
    """A tensor that writes to the residual stream along `axis`, and what it is called."""

    name: str
    tensor: nn.Parameter
    axis: int


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside of `model`, or the model itself; adapters inside of it stay active.

    Raises InputError where there is none or several, for weights that FSDP keeps in flat shards, and for adapters that
    put vectors of their own before the prompt, which no writer of the model has written.
    """
    if isinstance(model, PreTrainedModel):
        return model
    found: list[PreTrainedModel] = []
    waiting: list[nn.Module] = [model]
    while waiting:
        one = waiting.pop()
        if isinstance(one, PreTrainedModel):
            found.append(one)
            continue
        if type(one).__name__ == "FullyShardedDataParallel":
            raise InputError(
                "weights that FSDP cuts into flat shards cannot be reached by name; give the model as it was"
            )
        config: Any = getattr(one, "active_peft_config", None)
        if getattr(config, "is_prompt_learning", False):
            raise InputError(
                f"an adapter of type {config.peft_type.value} puts vectors of its own into the stream; "
                "take it off, or use LoRA"
            )
        waiting += one.children()
    if len(set(found)) != 1:
        raise InputError(
            f"expected a transformers model, or a wrapper around one, found {type(model).__name__} "
            f"with {len(set(found))} of them; give the model that from_pretrained returned"
        )
    return found[0]


def peft_classes(*names: str) -> tuple[type, ...]:
    """Return classes of PEFT's tuners by name; none as long as nobody has imported it, when no module can be one."""
    rooms = [
        sys.modules.get(f"peft.{room}") for room in ("peft_model", "tuners.tuners_utils", "utils.other", "tuners.lora")
    ]
    return tuple(getattr(room, name) for name in names for room in rooms if hasattr(room, name))


def inside(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return a module with all that is put around it, from the outside in, and the copies that PEFT trains instead.

    Raises InputError for an embedding of which single tokens are trained.
    """
    found: list[tuple[str, nn.Module]] = []
    waiting = [(name, module)]
    while waiting:
        label, one = waiting.pop(0)
        found.append((label, one))
        if isinstance(one, peft_classes("ModulesToSaveWrapper")):
            copies: Any = one.modules_to_save
            waiting += [(f"{label}.modules_to_save.{key}", copy) for key, copy in copies.items()]
            waiting.append((f"{label}.original_module", one.get_submodule("original_module")))
        elif isinstance(one, peft_classes("AuxiliaryTrainingWrapper")):
            raise UneditableAdapter(
                label,
                type(one).__name__,
                f"{label} is trained token by token, which cannot be kept silent; put LoRA on it",
            )
        elif isinstance(one, peft_classes("BaseTunerLayer")):
            waiting.append((f"{label}.base_layer", one.get_submodule("base_layer")))
        else:
            waiting += [(label, one.get_submodule(shell)) for shell in SHELLS if shell in one._modules]
    return found


def parameter_names(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the names that the parameters of a model have without what is put around its modules, shared ones again."""
    kept = next((name for name in SHELLS if name in module._modules), None)
    if isinstance(module, peft_classes("AuxiliaryTrainingWrapper")):
        kept = "original_module"
    elif isinstance(module, peft_classes("BaseTunerLayer")):
        kept = "base_layer"
    if kept:
        yield from parameter_names(module.get_submodule(kept), prefix)
        return
    yield from (f"{prefix}{name}" for name, one in module._parameters.items() if one is not None)
    for name, child in module._modules.items():
        if child is not None and name != "parametrizations":
            yield from parameter_names(child, f"{prefix}{name}.")


def name_of(model: nn.Module, module: nn.Module | None) -> str | None:
    """Return the name of a module in the model, without the shells on the way to it."""
    found = next((name for name, one in model.named_modules() if one is module), None)
    return found and ".".join(part for part in found.split(".") if part not in SHELLS)


def owner_of(model: nn.Module, name: str) -> nn.Module:
    """Return the module whose parameter of this name the model computes with, wherever PEFT has put it.

    Raises InputError where there is none, as in quantised modules, and where an adapter changes what it computes.
    """
    module, _, own = name.rpartition(".")
    one = model.get_submodule(module)
    while own not in one._parameters or one._parameters[own] is None:
        if isinstance(one, peft_classes("ModulesToSaveWrapper")):
            active = next(iter(getattr(one, "active_adapters", None) or [one.active_adapter]))
            copies: Any = one.modules_to_save
            one = (
                one.get_submodule("original_module") if one.disable_adapters or active not in copies else copies[active]
            )
        elif isinstance(one, peft_classes("BaseTunerLayer")):
            one = one.get_submodule("base_layer")
        else:
            shell = next((shell for shell in SHELLS if shell in one._modules), None)
            if shell is None:
                raise InputError(
                    f"{name}: {type(one).__name__} has no such parameter, so that it cannot be read; "
                    "give the model as from_pretrained loads it without quantisation"
                )
            one = one.get_submodule(shell)
    return one


def live_parameter(model: nn.Module, name: str) -> nn.Parameter:
    """Return the parameter of this name that the model computes with, wherever PEFT has put it; errors as `owner_of`."""
    return owner_of(model, name).get_parameter(name.rpartition(".")[2])


def adapters_of(name: str, module: nn.Module, parameter: str, axis: int) -> Iterator[Matrix]:
    """Yield the LoRA matrices on the residual side of one parameter of a writer, trained or not.

    Raises InputError for adapters whose delta is more than a product of two matrices.
    """
    if not isinstance(module, peft_classes("BaseTunerLayer")):
        return
    layer: Any = module
    if not isinstance(module, peft_classes("LoraLayer")) or layer.lora_variant:
        kind = ", ".join(type(one).__name__ for one in getattr(layer, "lora_variant", {}).values())
        kind = kind or type(module).__name__
        raise UneditableAdapter(name, kind, f"{name} is a {kind}, which cannot be kept silent; use plain LoRA")
    if getattr(layer, "parameter_name", "weight") != parameter:
        return
    side, matrix_axis = "lora_B", 0
    if isinstance(module, peft_classes("ParamWrapper")):
        # PEFT writes [expert, out, in] unless the layer says that it is stored as [expert, in, out].
        dim = layer.get_param().dim()
        turned = dim == 3 and getattr(layer.get_base_layer(), "is_transposed", False)
        if axis % dim != (-1 if turned else -2) % dim:
            side, matrix_axis = "lora_A", -1
    for key, own in getattr(layer, side).items():
        yield from matrices(f"{name}.{side}.{key}", own, matrix_axis)
    for key, matrix in layer.lora_embedding_B.items():
        yield Matrix(f"{name}.lora_embedding_B.{key}", matrix, 0)


def matrices(name: str, layer: nn.Module, axis: int) -> Iterator[Matrix]:
    """Yield one LoRA matrix: its weight, and its bias where it has one."""
    for own, tensor in layer.named_parameters():
        yield Matrix(f"{name}.{own}", tensor, 0 if own == "bias" else axis)


def tied_head(modules: Sequence[tuple[str, nn.Module]]) -> Iterator[Matrix]:
    """Yield what PEFT has put on a head that shares the embedding's weight: merged, it is written to the stream too."""
    for name, module in modules:
        for key, layer in getattr(module, "lora_A", {}).items():
            yield from matrices(f"{name}.lora_A.{key}", layer, -1)
        if ".modules_to_save." in name:
            yield from matrices(name, module, -1)


def is_embedding(model: PreTrainedModel, module: str) -> bool:
    """Tell whether a module is the token embedding, whatever is put around it."""
    embedding = model.get_input_embeddings()
    return any(one is embedding for _, one in inside(module, model.get_submodule(module)))
