"""Finds the writers of a model: every tensor whose output is added to the residual stream.

Structure comes from the model itself, built on the meta device: its decoder layers, the linear maps in them
that end at the residual width, the norms that a forward pass puts behind a writer. Rules are data; a new
name is a line in `WRITER_NAMES`. What the rules cannot place is refused, never skipped.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from abliterate.errors import ArchitectureError

Site = Literal["embed", "attn", "mlp"]
SITES: tuple[Site, ...] = get_args(Site)

WRITER_NAMES = {
    "o_proj": "attention of Llama and most since",
    "out_proj": "attention of OPT, GPT-Neo, GPT-J, Phi-1; mixers of Mamba",
    "dense": "attention of GPT-NeoX, Falcon, Phi, BLOOM",
    "c_proj": "attention and MLP of GPT-2 and its kin",
    "down_proj": "gated MLP of Llama and most since",
    "dense_4h_to_h": "MLP of GPT-NeoX, Falcon, BLOOM",
    "fc2": "MLP of OPT, Phi",
    "fc_out": "MLP of GPT-J, CodeGen",
    "w2": "MLP of Mixtral's experts, LFM2",
    "linear_out": "MLP of GPT-Neo's kin",
    "output_linear": "MLP of Granite MoE's shared expert",
}
"""Last name of a module that writes to the residual stream, and where it is found."""

MLP_PATHS = ("mlp", "ffn", "feed_forward", "feedforward", "moe", "expert", "fc2", "fc_out")
"""A writer whose path inside its layer holds one of these is an MLP; any other is a token mixer."""


@dataclass(frozen=True)
class Norm:
    """A norm between a writer and the residual stream: its gain is `offset + weight` (DESIGN section 3)."""

    module: str
    offset: float
    centred: bool

    def gain(self, weight: Float[Tensor, " d_model"]) -> Float[Tensor, " d_model"]:
        """Return what the normalised vector is multiplied by, in float32."""
        return weight.float() + self.offset


@dataclass(frozen=True)
class Writer:
    """A module that writes to the residual stream, with its parameters and their residual axes."""

    module: str
    site: Site
    layer: int | None
    parameters: tuple[tuple[str, int], ...]
    norm: Norm | None = None


@dataclass(frozen=True)
class Architecture:
    """Where a model keeps its residual stream. Module names are those in memory."""

    model_type: str
    d_model: int
    layers: tuple[str, ...]
    writers: tuple[Writer, ...]
    head: str | None
    tied: bool

    @property
    def depth(self) -> int:
        """Return L, the number of decoder layers."""
        return len(self.layers)


def text_config(model: PreTrainedModel) -> Any:
    """Return the config of the text decoder, which is the model's own unless it is multimodal."""
    return model.config.get_text_config(decoder=True)


def meta_twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same model without weights, on the meta device."""
    with torch.device("meta"):
        twin = type(model)._from_config(copy.deepcopy(model.config))
    twin.config.pad_token_id = None  # or some models look for padding in the input, which has no values here
    return cast(PreTrainedModel, twin.eval())


def find_architecture(model: PreTrainedModel) -> Architecture:
    """Return the layers and writers of `model`, which may be live or on the meta device; it is not run.

    Raises ArchitectureError when a layer has no writer, or holds weights that the rules do not know.
    """
    twin = meta_twin(model)
    embedding = twin.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise ArchitectureError(
            f"{twin.config.model_type}: has no token embedding; only decoder language models are edited"
        )
    names = {module: name for name, module in twin.named_modules()}
    d_model = embedding.embedding_dim
    layers = decoder_layers(twin)
    writers = [Writer(name, "embed", None, (("weight", -1),)) for name in embeddings(twin, names, layers, d_model)]
    for index, layer in enumerate(layers):
        found = list(layer_writers(layer, names[layer], index, d_model))
        refuse_unknown(layer, names[layer], found)
        writers += found
    norms = norms_behind(twin, names, writers)
    head = twin.get_output_embeddings()
    return Architecture(
        model_type=twin.config.model_type,
        d_model=d_model,
        layers=tuple(names[layer] for layer in layers),
        writers=tuple(with_norm(writer, norms.get(writer.module), names) for writer in writers),
        head=names.get(head) if head is not None else None,
        tied=head is not None and bool(getattr(text_config(twin), "tie_word_embeddings", False)),
    )


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return the decoder layers in order: the one list of modules as long as the config says."""
    expected = text_config(model).num_hidden_layers
    decoder = model.get_decoder()
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList) and len(module) == expected]
    outermost = [one for one in lists if not any(one is not other and one in set(other.modules()) for other in lists)]
    if len(outermost) != 1:
        raise ArchitectureError(
            f"{model.config.model_type}: expected one list of {expected} decoder layers, found {len(outermost)}; "
            "this architecture is not supported yet"
        )
    return list(outermost[0])


def embeddings(
    model: PreTrainedModel, names: dict[nn.Module, str], layers: list[nn.Module], d_model: int
) -> Iterator[str]:
    """Yield the token embedding and every other embedding of residual width outside the layers."""
    inside = {module for layer in layers for module in layer.modules()}
    for module in model.get_decoder().modules():
        if isinstance(module, nn.Embedding) and module not in inside and module.embedding_dim == d_model:
            yield names[module]


def layer_writers(layer: nn.Module, prefix: str, index: int, d_model: int) -> Iterator[Writer]:
    """Yield the writers of one decoder layer: linear maps onto the residual width with a writer's name."""
    for name, module in layer.named_modules():
        if name.rpartition(".")[2] not in WRITER_NAMES:
            continue
        if isinstance(module, nn.Linear) and module.out_features == d_model:
            axis = 0
        elif isinstance(module, Conv1D) and module.nf == d_model:
            axis = -1
        else:
            continue
        bias = (("bias", -1),) if module.bias is not None else ()
        site: Site = "mlp" if any(part in name.lower() for part in MLP_PATHS) else "attn"
        yield Writer(f"{prefix}.{name}", site, index, (("weight", axis), *bias))


def refuse_unknown(layer: nn.Module, prefix: str, writers: list[Writer]) -> None:
    """Raise ArchitectureError when a layer lacks a writer of either site, or holds fused experts."""
    for name, parameter in layer.named_parameters():
        if parameter.dim() == 3 and "conv" not in name:
            raise ArchitectureError(
                f"{prefix}.{name}: fused experts of shape {tuple(parameter.shape)} are not edited yet; nothing was written"
            )
    for site in ("attn", "mlp"):
        if not any(writer.site == site for writer in writers):
            raise ArchitectureError(
                f"{prefix}: no {site} writer found among {', '.join(name for name, _ in layer.named_children())}; "
                "this architecture is not supported yet"
            )


def norms_behind(twin: PreTrainedModel, names: dict[nn.Module, str], writers: list[Writer]) -> dict[str, nn.Module]:
    """Return, per writer, the norm that takes its output before the residual addition.

    A forward pass on the meta device shows it without any table of names: the norm's input *is* the
    writer's output, the same tensor, whereas a pre-norm reads the sum.
    """
    outputs: dict[int, tuple[str, Tensor]] = {}
    found: dict[str, nn.Module] = {}

    def remember(writer: str) -> Any:
        return lambda module, args, output: outputs.update({id(output): (writer, output)})

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and id(args[0]) in outputs:
            found[outputs[id(args[0])][0]] = module

    with ExitStack() as hooks, torch.no_grad():
        for writer in writers:
            hook = twin.get_submodule(writer.module).register_forward_hook(remember(writer.module))
            hooks.callback(hook.remove)
        for module in names:
            if "norm" in type(module).__name__.lower():
                hooks.callback(module.register_forward_pre_hook(look).remove)
        twin(input_ids=torch.zeros(1, 2, dtype=torch.long, device="meta"), use_cache=True)
    # An embedding's output is resid[0] itself: in most models the first pre-norm reads it directly.
    in_layers = {module for layer in decoder_layers(twin) for module in layer.modules()}
    sites = {writer.module: writer.site for writer in writers}
    return {name: norm for name, norm in found.items() if sites[name] != "embed" or norm not in in_layers}


def with_norm(writer: Writer, norm: nn.Module | None, names: dict[nn.Module, str]) -> Writer:
    """Return `writer` with the facts about the norm behind it, found by trying the norm out."""
    if norm is None:
        return writer
    if getattr(norm, "bias", None) is not None:
        raise ArchitectureError(
            f"{names[norm]}: a norm with a bias stands behind a writer; this architecture is not supported yet"
        )
    offset, centred = try_norm(norm)
    return Writer(writer.module, writer.site, writer.layer, writer.parameters, Norm(names[norm], offset, centred))


@cache
def try_norm(norm: nn.Module) -> tuple[float, bool]:
    """Return (offset, centred) of a norm: does a zero weight still let through, does a shift of its input vanish?"""
    trial = copy.deepcopy(norm).to_empty(device="cpu").float()
    weight = dict(trial.named_parameters()).get("weight")
    if weight is None or weight.dim() != 1:
        raise ArchitectureError(
            f"{type(norm).__name__}: a norm without a weight vector stands behind a writer; not supported yet"
        )
    x = torch.linspace(-1.0, 2.0, weight.numel()).cos()[None]
    with torch.no_grad():
        for parameter in trial.parameters():
            parameter.zero_()
        offset = 1.0 if bool(trial(x).abs().max() > 0) else 0.0
        weight.fill_(1.0)
        centred = bool((trial(x + 3.0) - trial(x)).abs().max() < 1e-3)
    return offset, centred


def disk_name(model: PreTrainedModel, name: str) -> str:
    """Return the name on disk of a parameter in memory, by transformers' own conversion mapping.

    Raises ArchitectureError when the mapping splits or merges the tensor.
    """
    parameter = model.get_parameter(name)
    stored = revert_weight_conversion(model, {name: parameter.detach().to("meta")})
    if len(stored) != 1 or next(iter(stored.values())).shape != parameter.shape:
        raise ArchitectureError(f"{name}: is stored in another layout on disk ({', '.join(stored)}); not supported yet")
    return str(next(iter(stored)))
