"""How much a gradient may keep in memory: smaller batches, and where even those are too large, layers run twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.models.batches import model_device, token_budget
from abliterate.models.offload import room_left

SHARE = 0.5
"""Of the free memory, what the activations kept for the gradients may take."""

FEW = 256
"""Fewer tokens than this at once leave the machine idle: then layers are computed again on the way back instead."""

KEPT_PER_BYTE = 2.0
"""Bytes kept for each byte that goes into or comes out of a linear map: norms, products and attention weigh as much."""


@dataclass(frozen=True)
class MemoryPlan:
    """`copies` divides the tokens of a batch; `recompute` says whether layers are run again on the way back."""

    copies: int
    recompute: bool


def plan_memory(model: PreTrainedModel, free: int | None = None) -> MemoryPlan:
    """Return what fits into `free` bytes; into what is free on the model's device by default."""
    device = model_device(model)
    if free is None:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else room_left(None)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    each = KEPT_PER_BYTE * model.dtype.itemsize * sum(one.in_features + one.out_features for one in linear)
    fitting = int(SHARE * free / max(each, 1))
    budget = token_budget(model)
    if fitting >= FEW:
        return MemoryPlan(max(1, -(-budget // fitting)), False)
    return MemoryPlan(max(1, budget // FEW), True)


@contextmanager
def recomputed(model: PreTrainedModel, architecture: Architecture, memory: MemoryPlan) -> Iterator[None]:
    """Inside the context, decoder layers keep only their input for the gradients, where the room asks for it.

    Chen et al. 2016, arXiv 1604.06174. Each layer is run a second time, hooks and all, when the gradient reaches it.
    """
    layers = [model.get_submodule(name) for name in architecture.layers] if memory.recompute else []
    # accelerate gives the layers that it dispatches a forward of their own; others have that of their class.
    before: list[tuple[nn.Module, Callable[..., Any] | None]] = [(one, vars(one).get("forward")) for one in layers]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer, forward in before:
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


@contextmanager
def frozen(model: PreTrainedModel) -> Iterator[None]:
    """Inside the context no weight asks for a gradient, and dropout is off."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = model.training
    model.eval()
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        model.train(training)
        for parameter in asking:
            parameter.requires_grad_(True)
