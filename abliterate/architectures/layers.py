"""Which list of modules holds the decoder layers: one rule for the model whose memory is planned and for its clone.

And which of them a direction may be taken from.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel

from abliterate.errors import InputError


def layer_list(model: PreTrainedModel, counts: Callable[[str], bool] = lambda name: True) -> str | None:
    """Return the name of the list of decoder layers, None where `model` has no list of modules.

    Of the lists outside one another it is the one with most weights: inside the text decoder, where transformers says
    which module that is, since a vision tower may be the larger one. `counts` tells of a list by its name whether it
    can be meant, such as whether it took part in a forward pass. `model` may be on the meta device; it is not run.
    """
    lists = {name: one for name, one in model.named_modules() if isinstance(one, nn.ModuleList) and len(one)}
    lists = {name: one for name, one in lists.items() if counts(name)}
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    decoder = model.get_decoder()
    inside = {id(one) for one in decoder.modules()} if isinstance(decoder, nn.Module) else set()
    candidates = [name for name in outer if id(lists[name]) in inside] or outer
    weights = {name: sum(one.numel() for one in lists[name].parameters()) for name in candidates}
    return max(weights, key=lambda name: weights[name], default=None)


def check_layer(layer: int, depth: int) -> int:
    """Return the layer. Raises InputError for one whose stream no later layer reads, or that is not there."""
    if not 1 <= layer < depth:
        raise InputError(f"--layer {layer} is out of range; this model has layers 1 to {depth - 1}")
    return layer


def decoder_layers(model: PreTrainedModel) -> list[str]:
    """Return the names of the decoder layers, in order; none where `model` has no list of modules."""
    name = layer_list(model)
    return [] if name is None else [f"{name}.{number}" for number in range(len(model.get_submodule(name)))]
