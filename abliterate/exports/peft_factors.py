"""What a LoRA adapter holds: PEFT's own config and names for the targets of an edit, and the exact factors of each."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.errors import InputError, first_line
from abliterate.exports.peft_targets import WAY_OUT, PeftTarget
from abliterate.projection import low_rank_factors

ADAPTER_NAME = "abliterate"
"""What the adapter is called while PEFT is asked for the names of its tensors; the files do not hold it."""


@dataclass(frozen=True)
class FactoredLayer:
    """What PEFT puts on one weight: the names of its two factors in the file, and their shapes."""

    names: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def bias(self) -> str:
        """Return the name of its bias, where the adapter has biases."""
        return f"{self.names[1].removesuffix('weight')}bias"


def peft_factors(
    target: PeftTarget, model: PreTrainedModel, checkpoint: Checkpoint
) -> tuple[Float[Tensor, "rank n_in"], Float[Tensor, "n_out rank"]]:
    """Return `lora_A` and `lora_B` of a weight, in the shapes and the order that PEFT keeps them in.

    Fused experts have one LoRA each: `lora_A` holds one after the other, `lora_B` has them interleaved.
    """
    dimensions = model.get_parameter(target.parameter).dim()
    edit = target.edit
    pairs = [low_rank_factors(matrix, edit.basis, edit.strength) for matrix in matrices(target, checkpoint, dimensions)]
    if target.kind in ("linear", "parameter"):  # Conv1D and embeddings PEFT transposes itself
        transposed = getattr(model.get_submodule(target.module), "is_transposed", False)
        output = 0 if dimensions == 2 else 2 if transposed else 1
        if target.axis != output:
            pairs = [(wide.T, tall.T) for tall, wide in pairs]
    return torch.cat([wide for _, wide in pairs]), torch.stack([tall for tall, _ in pairs], dim=-1).flatten(1)


def matrices(target: PeftTarget, checkpoint: Checkpoint, dimensions: int) -> Iterator[Float[Tensor, "d_model n"]]:
    """Read a weight as matrices with the residual axis first: one, or those of its experts."""
    for place in target.places if dimensions == 3 else target.places[:1]:
        tensor = checkpoint.read(place.name).movedim(place.axis, 0)
        yield from tensor.unbind(1) if tensor.dim() == 3 else [tensor]


def bias_change(target: PeftTarget, checkpoint: Checkpoint) -> Float[Tensor, " d_model"]:
    """Return what the edit adds to the bias of a layer: `-s R^T (R b)`."""
    bias = checkpoint.read(str(target.bias)).float()
    tall, wide = low_rank_factors(bias[:, None], target.edit.basis, target.edit.strength)
    return (tall @ wide)[:, 0]


def lora_config_of(targets: Sequence[PeftTarget], lora_bias: bool, base_name: str, revision: str | None) -> Any:
    """Return the `peft.LoraConfig` that puts a LoRA with scaling 1 on exactly the targets."""
    rank = Counter(target.rank for target in targets).most_common(1)[0][0]
    others = {re.escape(target.key): target.rank for target in targets if target.rank != rank}
    return adapter_config(
        sorted(target.module for target in targets if target.kind != "parameter"),
        rank,
        lora_bias,
        base_name,
        revision,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_parameters=sorted(target.parameter for target in targets if target.kind == "parameter") or None,
        fan_in_fan_out=any(target.kind == "conv1d" for target in targets),
    )


def adapter_config(
    modules: Sequence[str], rank: int, lora_bias: bool, base_name: str, revision: str | None, **more: Any
) -> Any:
    """Return the `peft.LoraConfig` of an adapter of ours: scaling 1, for a causal language model, not to be trained."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=rank,  # the scaling is their quotient
        target_modules=list(modules),
        lora_bias=lora_bias,
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=base_name,
        revision=revision,
        **more,
    )


def config_text(config: Any) -> str:
    """Return `adapter_config.json`, the same bytes for the same adapter."""
    fields = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def as_loaded(targets: Sequence[PeftTarget], model: PreTrainedModel) -> tuple[PeftTarget, ...]:
    """Return the targets by the means that PEFT leaves to them.

    In a model with fused experts it takes some names of linear layers, such as `down_proj`, for those of experts in
    checkpoints from before the fusion; there the weight is adapted as a parameter.
    """
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    converted = lora_config_of(targets, False, "", None)
    convert_peft_config_for_transformers(converted, model, None)
    left = set(converted.target_modules)
    return tuple(
        target if target.kind == "parameter" or target.module in left else replace(target, kind="parameter")
        for target in targets
    )


def injected(config: Any, model: PreTrainedModel) -> dict[str, FactoredLayer]:
    """Return what PEFT makes of `config` on an empty model like `model`, by the names of the weights in memory.

    Raises InputError where PEFT refuses: it puts no LoRA on what the kernels of some Mamba models read directly.
    """
    from peft import inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    with torch.device("meta"):
        empty = type(model)._from_config(copy.deepcopy(model.config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT warns of, it says to whoever loads the adapter
        try:
            inject_adapter_in_model(copy.deepcopy(config), empty, ADAPTER_NAME, low_cpu_mem_usage=True)
        except ValueError as error:
            raise InputError(f"PEFT does not adapt this model: {first_line(error)}; {WAY_OUT}") from error
    found: dict[str, FactoredLayer] = {}
    for path, layer in empty.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        weight = f"{path.replace('.base_layer', '')}.{getattr(layer, 'parameter_name', 'weight')}"
        prefix = f"base_model.model.{path}"
        if ADAPTER_NAME in layer.lora_embedding_A:
            names = (f"{prefix}.lora_embedding_A", f"{prefix}.lora_embedding_B")
            pair = (layer.lora_embedding_A[ADAPTER_NAME], layer.lora_embedding_B[ADAPTER_NAME])
        else:
            names = (f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight")
            pair = (layer.lora_A[ADAPTER_NAME].weight, layer.lora_B[ADAPTER_NAME].weight)
        found[weight] = FactoredLayer(names, (tuple(pair[0].shape), tuple(pair[1].shape)))
    return found


def named_factors(
    target: PeftTarget,
    layers: Mapping[str, FactoredLayer],
    pair: tuple[Float[Tensor, "rank n_in"], Float[Tensor, "n_out rank"]],
) -> dict[str, Tensor]:
    """Return the factors of a weight by their names in the file. Raises InputError when PEFT would have others there."""
    layer = layers.get(target.parameter)
    shapes = tuple(tuple(one.shape) for one in pair)
    if layer is None or layer.shapes != shapes:
        raise InputError(
            f"{target.parameter}: the edit has factors of {shapes}, PEFT {layer and layer.shapes}; {WAY_OUT}"
        )
    return {name: one.contiguous() for name, one in zip(layer.names, pair, strict=True)}
