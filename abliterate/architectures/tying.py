"""Whether head and token embedding are one matrix: asked here, and nowhere else.

They are one where the model as it is loaded shares one, whatever its config says. transformers 5 ties what the config says
is tied, unless a checkpoint stores both and they differ: then it keeps the two apart. A head that is not stored, or stored
equal to the embedding, is the embedding; a config that does not tie leaves two matrices, even of the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.wrappers import SHELLS, name_of
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.key_mapping import stored_names
from abliterate.checkpoints.quantized_weight import quantized_weights

APART_NOTE = (
    "config.json ties the head to the token embedding, and the weights hold two different matrices: they are kept apart, as "
    "transformers does, and the head is not edited; a program that follows the config alone drops the stored head"
)


def shares_matrix(model: PreTrainedModel) -> bool:
    """Tell whether head and token embedding of a model are one matrix; it may be live, streaming, wrapped or without weights."""
    modules = [
        innermost(one) for one in (model.get_output_embeddings(), model.get_input_embeddings()) if one is not None
    ]
    weights = [weight for one in modules if (weight := one._parameters.get("weight")) is not None]
    if len(weights) < 2:
        return False
    if weights[0] is weights[1] or same_memory(*weights):
        return True
    # What accelerate keeps on the disk has lost its identity, and transformers ties by the config alone what is all there.
    away = all(weight.is_meta and hasattr(one, "_hf_hook") for one, weight in zip(modules, weights, strict=True))
    if not away or names_of_ends(model)[0] not in tied_names(model):
        return False
    with align_module_device(modules[0]), align_module_device(modules[1]):
        return same_numbers(*(one.get_parameter("weight") for one in modules))


def innermost(module: nn.Module) -> nn.Module:
    """Return a module without what is put around it: where PEFT trains a copy of it, the one that it is a copy of."""
    names = ("original_module", "base_layer", *SHELLS)
    while found := next((name for name in names if name in module._modules), None):
        module = module.get_submodule(found)
    return module


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are the same numbers in memory."""
    if any(tensor.is_meta or type(tensor.data) is not Tensor for tensor in (one, other)) or not one.numel():
        return False
    return one.shape == other.shape and one.device == other.device and one.data_ptr() == other.data_ptr()


def same_numbers(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors hold the same numbers, in whatever dtype."""
    if one.shape != other.shape:
        return False
    return torch.equal(one, other) if one.dtype == other.dtype else torch.equal(one.float(), other.float())


def tied_names(model: PreTrainedModel) -> dict[str, str]:
    """Return the parameters that transformers ties, each with the one that it is."""
    return dict(getattr(model, "all_tied_weights_keys", None) or {})


def names_of_ends(model: PreTrainedModel) -> tuple[str, str]:
    """Return the names of the weights of head and token embedding."""
    head, embedding = (name_of(model, one) for one in (model.get_output_embeddings(), model.get_input_embeddings()))
    return f"{head}.weight", f"{embedding}.weight"


def stored_apart(model: PreTrainedModel, checkpoint: Checkpoint) -> bool:
    """Tell whether the head of a model that its config ties is stored, and is another matrix than the embedding.

    `model` may be on the meta device; of the weights only these two are read, dequantised. Raises CheckpointError as
    `Checkpoint.read`.
    """
    if not shares_matrix(model):
        return False
    quantized = quantized_weights(checkpoint)
    parts = {name for one in quantized.values() for name in (one.tensors.values, one.tensors.scales)}
    stored = stored_names(model, [*(name for name in checkpoint.tensors if name not in parts), *quantized])
    head, embedding = (stored.get(name, []) for name in names_of_ends(model))
    if not head or not embedding:
        return False
    read = (
        quantized[name].dequantized() if name in quantized else checkpoint.read(name)
        for (name, _), *_ in (head, embedding)
    )
    return not same_numbers(*read)


def untie(model: PreTrainedModel) -> None:
    """Give the head of a model with tied embeddings a matrix of its own, with the same numbers.

    PEFT merges an adapter on both roles of a tied matrix into that one matrix, twice; on an untied model, once each.
    Works before and after the adapter is put on, and without weights. Does nothing where nothing is tied.

    Examples:
        >>> untie(model)
        >>> model.get_output_embeddings().weight is model.get_input_embeddings().weight, model.config.tie_word_embeddings
        (False, False)
    """
    embedding, head = (
        getattr(one, "base_layer", one) for one in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    if head is None or head.weight is not embedding.weight:
        return
    head.weight = nn.Parameter(head.weight.detach().clone(), head.weight.requires_grad)
    untie_config(model, model.config)
    model.all_tied_weights_keys = {
        name: one for name, one in tied_names(model).items() if name not in names_of_ends(model)
    }


def untie_config(model: PreTrainedModel, config: Any) -> None:
    """Let a config say that the head is not tied; `model` is of that config.

    Not where it ties more than the head, which the same word would take apart: there transformers sees by the weights.
    """
    if set(tied_names(model)) <= set(names_of_ends(model)):
        for part in (config, config.get_text_config(decoder=True)):
            part.tie_word_embeddings = False
