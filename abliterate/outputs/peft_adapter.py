"""An edit as a PEFT adapter: a LoRA whose factors are the edit itself, `dW = (-s R^T) (R W)`, not an approximation of it.

The factors come from the original checkpoint, tensor by tensor. On the edited checkpoint, the same adapter with its
scaling times -1 gives the original back (`peft.helpers.rescale_adapter_scale`).
"""

from __future__ import annotations

import copy
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.adapter import ADAPTER, WEIGHTS
from abliterate.architecture import Architecture
from abliterate.checkpoint import Checkpoint
from abliterate.errors import InputError
from abliterate.outputs.peft_targets import WAY_OUT, Target, check_biases, find_targets
from abliterate.plan import EditPlan
from abliterate.progress import SILENT, Progress
from abliterate.projection import low_rank_factors
from abliterate.staging import Staging
from abliterate.stored import Stored

NAME = "abliterate"
"""What the adapter is called while PEFT is asked for the names of its tensors; the files do not hold it."""

COLUMNS = 1 << 15
"""Columns of a matrix that are float32 at a time: an embedding has as many as there are tokens."""


@dataclass(frozen=True)
class Layer:
    """What PEFT puts on one weight: the names of its two factors in the file, and their shapes."""

    names: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


def write_adapter(
    plan: EditPlan,
    model: PreTrainedModel,
    architecture: Architecture,
    checkpoint: Checkpoint,
    base_name: str,
    revision: str | None,
    out: Path,
    progress: Progress = SILENT,
    force: bool = False,
) -> None:
    """Write `plan` as the folder of a LoRA adapter for the model `base_name`, which `PeftModel.from_pretrained` reads.

    `model`, which may be on the meta device, gives names and shapes; `checkpoint` is the original. The factors are
    float32, of the rank of the basis. A tied embedding gets them in both of its roles, and PEFT adds both to the one
    tensor when it merges: `untie` the model before that. Raises InputError for an edit that no LoRA holds exactly,
    naming the tensor, without the `peft` package, and when `out` exists (unless `force`).
    """
    if find_spec("peft") is None:
        raise InputError("writing an adapter needs an extra: pip install 'abliterate[train]'")
    targets = as_loaded(find_targets(plan, model, architecture, Stored.of(model, checkpoint)), model)
    biases = {target.module: bias_change(target, checkpoint) for target in targets if target.bias}
    changed = [target for target in targets if target.module in biases and bool(biases[target.module].any())]
    check_biases(targets, model, changed)
    config = lora_config(targets, bool(changed), base_name, revision)
    layers = injected(config, model)
    with Staging.open(out, f"adapter {plan.digest} {base_name} {revision}", force, nbytes(layers)) as staging:
        tensors: dict[str, Tensor] = {}
        with progress.step("writing the adapter", len(targets), "tensors") as advance:
            for target in targets:
                tensors |= named_factors(target, layers, factors(target, model, checkpoint))
                if changed:
                    name = layers[target.parameter].names[1]
                    tensors[f"{name.removesuffix('weight')}bias"] = biases[target.module]
                advance(1)
        save_file(tensors, staging.path(WEIGHTS), {"format": "pt"})
        staging.finish(WEIGHTS)
        staging.write_text(ADAPTER, config_text(config))
        staging.publish()


def untie(model: PreTrainedModel) -> None:
    """Give the head of a model with tied embeddings a matrix of its own, with the same numbers.

    PEFT merges an adapter on both roles of a tied matrix into that one matrix, twice; on an untied model, once each.
    Works before and after the adapter is put on. Does nothing where nothing is tied.
    """
    embedding, head = (
        getattr(one, "base_layer", one) for one in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone(), head.weight.requires_grad)
        model.config.get_text_config(decoder=True).tie_word_embeddings = False
        model.config.tie_word_embeddings = False


def factors(
    target: Target, model: PreTrainedModel, checkpoint: Checkpoint
) -> tuple[Float[Tensor, "rank n_in"], Float[Tensor, "n_out rank"]]:
    """Return `lora_A` and `lora_B` of a weight, in the shapes and the order that PEFT keeps them in.

    Fused experts have one LoRA each: `lora_A` holds one after the other, `lora_B` has them interleaved.
    """
    dimensions = model.get_parameter(target.parameter).dim()
    pairs = [low_rank(matrix, target) for matrix in matrices(target, checkpoint, dimensions)]
    if target.kind in ("linear", "parameter"):  # Conv1D and embeddings PEFT transposes itself
        transposed = getattr(model.get_submodule(target.module), "is_transposed", False)
        output = 0 if dimensions == 2 else 2 if transposed else 1
        if target.axis != output:
            pairs = [(wide.T, tall.T) for tall, wide in pairs]
    return torch.cat([wide for _, wide in pairs]), torch.stack([tall for tall, _ in pairs], dim=-1).flatten(1)


def matrices(target: Target, checkpoint: Checkpoint, dimensions: int) -> Iterator[Float[Tensor, "d_model n"]]:
    """Read a weight as matrices with the residual axis first: one, or those of its experts."""
    for place in target.places if dimensions == 3 else target.places[:1]:
        tensor = checkpoint.read(place.name).movedim(place.axis, 0)
        yield from tensor.unbind(1) if tensor.dim() == 3 else [tensor]


def low_rank(
    matrix: Float[Tensor, "d_model n"], target: Target
) -> tuple[Float[Tensor, "d_model k"], Float[Tensor, "k n"]]:
    """Return the factors of one matrix's edit, in float32."""
    edit = target.edit
    parts = [low_rank_factors(part, edit.basis, edit.strength) for part in torch.split(matrix, COLUMNS, dim=1)]
    return parts[0][0], torch.cat([wide for _, wide in parts], dim=1)


def bias_change(target: Target, checkpoint: Checkpoint) -> Float[Tensor, " d_model"]:
    """Return what the edit adds to the bias of a layer: `-s R^T (R b)`."""
    bias = checkpoint.read(str(target.bias)).float()
    tall, wide = low_rank_factors(bias[:, None], target.edit.basis, target.edit.strength)
    return (tall @ wide)[:, 0]


def lora_config(targets: Sequence[Target], lora_bias: bool, base_name: str, revision: str | None) -> Any:
    """Return the `peft.LoraConfig` that puts a LoRA with scaling 1 on exactly the targets."""
    from peft import LoraConfig

    rank = Counter(target.rank for target in targets).most_common(1)[0][0]
    others = {re.escape(target.key): target.rank for target in targets if target.rank != rank}
    return LoraConfig(
        r=rank,
        lora_alpha=rank,  # the scaling is their quotient
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=sorted(target.module for target in targets if target.kind != "parameter"),
        target_parameters=sorted(target.parameter for target in targets if target.kind == "parameter") or None,
        fan_in_fan_out=any(target.kind == "conv1d" for target in targets),
        lora_bias=lora_bias,
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=base_name,
        revision=revision,
    )


def config_text(config: Any) -> str:
    """Return `adapter_config.json`, the same bytes for the same adapter."""
    fields = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    return json.dumps(fields, indent=2, sort_keys=True) + "\n"


def as_loaded(targets: Sequence[Target], model: PreTrainedModel) -> tuple[Target, ...]:
    """Return the targets by the means that PEFT leaves to them.

    In a model with fused experts it takes some names of linear layers, such as `down_proj`, for those of experts in
    checkpoints from before the fusion; there the weight is adapted as a parameter.
    """
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    converted = lora_config(targets, False, "", None)
    convert_peft_config_for_transformers(converted, model, None)
    left = set(converted.target_modules)
    return tuple(
        target if target.kind == "parameter" or target.module in left else replace(target, kind="parameter")
        for target in targets
    )


def injected(config: Any, model: PreTrainedModel) -> dict[str, Layer]:
    """Return what PEFT makes of `config` on an empty model like `model`, by the names of the weights in memory."""
    from peft import inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    with torch.device("meta"):
        empty = type(model)._from_config(copy.deepcopy(model.config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT warns of, it says to whoever loads the adapter
        inject_adapter_in_model(copy.deepcopy(config), empty, NAME, low_cpu_mem_usage=True)
    found: dict[str, Layer] = {}
    for path, layer in empty.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        weight = f"{path.replace('.base_layer', '')}.{getattr(layer, 'parameter_name', 'weight')}"
        prefix = f"base_model.model.{path}"
        if NAME in layer.lora_embedding_A:
            names = (f"{prefix}.lora_embedding_A", f"{prefix}.lora_embedding_B")
            pair = (layer.lora_embedding_A[NAME], layer.lora_embedding_B[NAME])
        else:
            names = (f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight")
            pair = (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)
        found[weight] = Layer(names, (tuple(pair[0].shape), tuple(pair[1].shape)))
    return found


def named_factors(
    target: Target, layers: Mapping[str, Layer], pair: tuple[Float[Tensor, "rank n_in"], Float[Tensor, "n_out rank"]]
) -> dict[str, Tensor]:
    """Return the factors of a weight by their names in the file. Raises InputError when PEFT would have others there."""
    layer = layers.get(target.parameter)
    shapes = tuple(tuple(one.shape) for one in pair)
    if layer is None or layer.shapes != shapes:
        raise InputError(
            f"{target.parameter}: the edit has factors of {shapes}, PEFT {layer and layer.shapes}; {WAY_OUT}"
        )
    return {name: one.contiguous() for name, one in zip(layer.names, pair, strict=True)}


def nbytes(layers: Mapping[str, Layer]) -> int:
    """Return the bytes of all factors."""
    return sum(4 * math.prod(shape) for layer in layers.values() for shape in layer.shapes)
