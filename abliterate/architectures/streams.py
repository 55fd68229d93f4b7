"""Where a model keeps its residual stream: taken from the outputs of its layers, several streams in one where it has lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.eager import eager
from abliterate.errors import ArchitectureError


@contextmanager
def resid_of(
    model: PreTrainedModel, architecture: Architecture, keep: Callable[[Tensor], Tensor] = lambda stream: stream
) -> Iterator[list[Tensor]]:
    """Collect `resid[0..L]` of one forward pass: the input of each decoder layer, then the output of the last.

    The list is filled when the context ends; `keep` says what of each stream to keep, as soon as it is there. A
    layer that does not run, as cross-attention without an image, leaves the stream as it was.
    """
    streams: list[Tensor] = []
    last: list[Tensor] = []
    inputs: dict[int, Tensor] = {}

    def before(index: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs[index] = keep(args[0] if args else kwargs["hidden_states"])

        return hook

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        last[:] = [output if isinstance(output, Tensor) else output[0]]

    with eager(), ExitStack() as hooks:
        for index, name in enumerate(architecture.layers):
            layer = model.get_submodule(name)
            hooks.callback(layer.register_forward_pre_hook(before(index), with_kwargs=True).remove)
            hooks.callback(layer.register_forward_hook(after).remove)
        yield streams
    if not last:
        raise ArchitectureError(
            f"{architecture.layers[-1]}: the model computes without calling it, so that its stream cannot be seen; "
            "give the model as from_pretrained loads it, without fused or traced parts"
        )
    following = keep(last[0])
    filled = [following]
    for index in reversed(range(architecture.depth)):
        following = inputs.get(index, following)
        filled.append(following)
    streams[:] = reversed(filled)


def clone_streams(clone: PreTrainedModel, architecture: Architecture, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Return `resid[0..L]` of one forward pass of a small clone, in float64, lanes apart.

    Raises ArchitectureError when it does not run.
    """
    with torch.no_grad(), resid_of(clone, architecture) as collected:
        try:
            clone(**inputs, use_cache=False)
        except RuntimeError as error:
            raise ArchitectureError(
                f"{architecture.model_type}: its small clone does not run once it was saved and loaded ({error}); "
                "not supported yet"
            ) from error
    return [lanes(stream.cpu().double(), architecture.d_model) for stream in collected]


def lanes(stream: Float[Tensor, "batch length *rest"], d_model: int) -> Float[Tensor, "batch length *lanes d_model"]:
    """Return a stream with its lanes, in models whose residual stream has several, on an axis of their own."""
    return stream if stream.shape[-1] == d_model else stream.reshape(*stream.shape[:-1], -1, d_model)
