"""The bias form of activation addition: where a model can hold a vector that it adds to `resid[l]` at every token.

A constant in the output of the last writer of block `l - 1` reaches `resid[l]` as it is, if nothing reads that output
first and no norm stands behind it. That is a bias which the checkpoint holds, or the place of one that an adapter can
bring. Which writer of a block it is, and whether it is exact, is not guessed: each is tried on a small clone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from abliterate.architectures.architecture import Architecture, Parameter, Writer, find_architecture
from abliterate.architectures.clone import DEPTH, clone_inputs, clone_of
from abliterate.architectures.parameter_roles import layer_place
from abliterate.architectures.streams import clone_streams
from abliterate.errors import ArchitectureError
from abliterate.interventions import on_first

EXACT_SITE = 1e-4
"""Largest error, relative to what is added, that rounding in float32 explains."""

SiteKey = tuple[str, str | None]
"""A writer and its bias, by their names inside a layer; None where it has no bias."""


@dataclass(frozen=True)
class BiasSite:
    """What adds a constant to one `resid[l]`: a bias of a writer, or a writer without one, for an adapter to bring it.

    What is added there reaches the stream `multiplier` times.
    """

    writer: Writer
    bias: Parameter | None
    multiplier: float


@dataclass(frozen=True)
class Addition:
    """A vector of `length` along a unit direction, added to `resid[layer]` through `bias_site`."""

    bias_site: BiasSite
    layer: int
    length: float

    @property
    def strength(self) -> float:
        """Return how much of the unit direction goes into the adder, for what the block scales."""
        return self.length / self.bias_site.multiplier


def find_bias_sites(model: PreTrainedModel, architecture: Architecture) -> Mapping[int, BiasSite]:
    """Return what adds to `resid[l]`, for each `l` in `1..L-1` that has something; a bias where there is one.

    `model` may be on the meta device; it is not run. `architecture` is its own, which keeps what was found: two clones
    are built and traced for it the first time. Raises ArchitectureError, saying what to do instead, when no layer has
    anything.
    """
    return architecture.once("bias sites", lambda: tried_bias_sites(model, architecture))


def tried_bias_sites(model: PreTrainedModel, architecture: Architecture) -> Mapping[int, BiasSite]:
    """Do `find_bias_sites` for an architecture that does not know them yet."""
    layers = architecture.layers[0].rpartition(".")[0]
    exact = exact_bias_sites(model, layers)
    found: dict[int, BiasSite] = {}
    for layer in range(1, architecture.depth):
        writers = [one for one in reversed(architecture.writers) if one.layer == layer - 1]
        with_bias = [(one, bias) for one in writers for bias in biases(one)]
        for writer, bias in [*with_bias, *((one, None) for one in writers)]:
            multiplier = exact.get(key_of(writer, bias, layers))
            if multiplier is not None:
                found[layer] = BiasSite(writer, bias, multiplier)
                break
    if not found:
        raise ArchitectureError(
            f"{architecture.model_type}: no writer of its blocks adds a constant to the stream as it is (a norm, a "
            "weighting or a scale by depth stands behind each); use `abliterate.added`, or a control vector: abliterate export --to control-vector"
        )
    return found


def exact_bias_sites(model: PreTrainedModel, layers: str) -> dict[SiteKey, float]:
    """Return the places that are exact in every layer that has them, with their multipliers.

    They are tried on clones of two depths: what a block scales by the depth of the model (MiniCPM) is not known of it.
    """
    found: dict[SiteKey, set[float]] = {}
    for depth in (DEPTH, DEPTH + 1):
        clone = clone_of(model, least=depth)
        architecture = find_architecture(clone)
        for writer in architecture.writers:
            if writer.layer is not None and writer.plain:
                for bias in (*biases(writer), None):
                    key = key_of(writer, bias, layers)
                    found.setdefault(key, set()).add(try_bias_site(clone, architecture, writer, bias))
    return {key: values.pop() for key, values in found.items() if len(values) == 1 and values != {0.0}}


def biases(writer: Writer) -> Iterator[Parameter]:
    """Yield the parameters of a writer that may be biases: the trial says whether they are."""
    yield from (one for one in writer.parameters if writer.constant or "bias" in one.name)


def key_of(writer: Writer, bias: Parameter | None, layers: str) -> SiteKey:
    """Return how a place is called in every layer."""
    return layer_place(f"{writer.module}.", layers)[1], bias.name if bias else None


def try_bias_site(clone: PreTrainedModel, architecture: Architecture, writer: Writer, bias: Parameter | None) -> float:
    """Return how many times what is added there reaches the next `resid`; 0 where it does not arrive as it is."""
    assert writer.layer is not None
    behind = writer.layer + 1
    module = clone.get_submodule(writer.module)
    if bias is None and not isinstance(module, nn.Linear | Conv1D):
        return 0.0
    inputs = clone_inputs(clone)
    vector = torch.randn(architecture.d_model, generator=torch.Generator().manual_seed(0))
    before = clone_streams(clone, architecture, inputs)
    after = with_constant(module, bias, vector, lambda: clone_streams(clone, architecture, inputs))
    if not all(torch.equal(one, other) for one, other in zip(before[:behind], after[:behind], strict=True)):
        return 0.0
    change, direction = after[behind] - before[behind], vector.double()
    multiplier = float((change @ direction).mean() / (direction @ direction))
    error = float((change - multiplier * direction).norm(dim=-1).max() / direction.norm())
    return round(multiplier, 5) if abs(multiplier) > EXACT_SITE and error < EXACT_SITE * abs(multiplier) else 0.0


def with_constant(
    module: nn.Module, bias: Parameter | None, vector: Float[Tensor, " d_model"], run: Callable[[], list[Tensor]]
) -> list[Tensor]:
    """Return what `run` gives while the vector is in the bias, or in the output of a module without one."""
    if bias is None:
        hook = module.register_forward_hook(lambda module, args, output: on_first(output, lambda one: one + vector))
        try:
            return run()
        finally:
            hook.remove()
    parameter = module.get_parameter(bias.name)
    kept = parameter.detach().clone()
    with torch.no_grad():
        parameter.copy_((kept.movedim(bias.axis, -1) + vector).movedim(-1, bias.axis))
        given = run()
        parameter.copy_(kept)
    return given
