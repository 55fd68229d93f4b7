"""One forward pass, remembered: which modules ran, what each was given and made, and where the decoder layers are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.layers import layer_list
from abliterate.errors import ArchitectureError

Node = Any
"""A node of autograd's graph (torch has no public class for it)."""


@dataclass
class Recording:
    """What a forward pass did: modules in the order they ran, their first inputs and outputs, who computed which node."""

    calls: list[str] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[Node, str] = field(default_factory=dict)


def record(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Recording:
    """Run `model` on `inputs` and keep what every module was given and made."""
    recording = Recording()
    names = {module: name for name, module in model.named_modules()}

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = names[module]
        recording.calls.append(name)
        given = args[0] if args else kwargs.get("hidden_states")
        if isinstance(given, Tensor):
            recording.inputs[name] = given

    def after(module: nn.Module, args: Any, output: Any) -> None:
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                recording.modules.setdefault(tensor.grad_fn, names[module])
                recording.outputs.setdefault(names[module], tensor)

    with ExitStack() as hooks, torch.enable_grad():
        for module in names:
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        try:
            recording.outputs[""] = model(**inputs, use_cache=False)[0]
        except Exception as error:
            raise ArchitectureError(
                f"{model.config.model_type}: a small clone of it does not run on text ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); not supported yet"
            ) from error
    return recording


def recorded_layers(model: PreTrainedModel, recording: Recording, d_model: int) -> str:
    """Return the name of the list of decoder layers, of the lists whose first member ran on the stream.

    Raises ArchitectureError where there is none, or not every layer ran just once.
    """

    def ran(name: str) -> bool:
        first = recording.inputs.get(f"{name}.0")
        return (
            first is not None
            and f"{name}.0" in recording.outputs
            and any(not length % d_model for length in first.shape)
        )

    chosen = layer_list(model, ran)
    if chosen is None:
        raise ArchitectureError(f"{model.config.model_type}: has no list of decoder layers; it is no residual decoder")
    again = next(
        (name for name in recording.calls if name.rpartition(".")[0] == chosen and recording.calls.count(name) > 1),
        None,
    )
    if again or f"{chosen}.{len(model.get_submodule(chosen)) - 1}" not in recording.calls:
        raise ArchitectureError(
            f"{again or chosen}: not every layer runs just once, so that resid[l] has no place; not supported"
        )
    return chosen
