"""What of an edit a LoRA adapter can hold exactly: which tensor by which of PEFT's means, and why not where it cannot.

A linear layer, a Conv1D and an embedding are PEFT's `target_modules`; fused experts, and embeddings that PEFT would call
in another way than the model does, its `target_parameters`; biases its `lora_bias`. Anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from abliterate.architectures.architecture import Architecture, Parameter, Writer, natural
from abliterate.edits.plan import EditPlan
from abliterate.edits.stored import Stored, StoredPlace
from abliterate.edits.tensor_edits import TensorEdit
from abliterate.errors import InputError

TargetKind = Literal["linear", "conv1d", "embedding", "parameter"]

WAY_OUT = "write an edited checkpoint instead, or use the hooks (`abliterate.ablated`)"


@dataclass(frozen=True)
class PeftTarget:
    """A weight that gets a LoRA: its module and name in memory, where it is stored, and its edit.

    `axis` is that of the residual stream in memory, counted from 0. `edit` is the same for all `places`: there are
    several for fused experts, in the order in which they are fused. `bias` is where the module's bias is stored.
    """

    module: str
    name: str
    kind: TargetKind
    axis: int
    places: tuple[StoredPlace, ...]
    edit: TensorEdit
    bias: str | None = None

    @property
    def parameter(self) -> str:
        """Return the name of the weight in memory."""
        return f"{self.module}.{self.name}"

    @property
    def key(self) -> str:
        """Return what PEFT compares its patterns with."""
        return self.parameter if self.kind == "parameter" else self.module

    @property
    def rank(self) -> int:
        """Return the rank of its LoRA: that of the basis."""
        return len(self.edit.basis)


def find_targets(
    plan: EditPlan, model: PreTrainedModel, architecture: Architecture, stored: Stored
) -> tuple[PeftTarget, ...]:
    """Return the weights that the edits of `plan` reach. Raises InputError for an edit that no LoRA can hold."""
    for edit in plan.edits.values():
        if edit.kind != "plain":
            raise InputError(f"{edit.name} is quantised; make the adapter from the unquantised checkpoint")
    return tuple(
        target for writer in architecture.writers for target in targets_of(writer, plan, model, architecture, stored)
    )


def targets_of(
    writer: Writer, plan: EditPlan, model: PreTrainedModel, architecture: Architecture, stored: Stored
) -> Iterator[PeftTarget]:
    """Yield the weights of one writer, and the head where it is tied to an embedding that is edited."""
    module = model.get_submodule(writer.module)
    parts: dict[str, tuple[Parameter, tuple[StoredPlace, ...], TensorEdit]] = {}
    for one in writer.parameters:
        places = tuple(sorted(stored.places(writer, one), key=lambda place: natural(place.name)))
        if places[0].name in plan.edits:
            parts[one.name] = (one, places, plan.edits[places[0].name])
    bias = (
        parts.pop("bias", None) if "weight" in parts and target_kind(module, "weight") in ("linear", "conv1d") else None
    )
    for name, (one, places, edit) in parts.items():
        parameter = f"{writer.module}.{name}"
        kind = target_kind(module, name)
        dimensions = model.get_parameter(parameter).dim()
        if dimensions < 2:
            raise InputError(
                f"{parameter}: a vector outside of a linear layer ({type(module).__name__}), which LoRA cannot add to; "
                f"{WAY_OUT}"
            )
        axis = one.axis % dimensions
        yield PeftTarget(writer.module, name, kind, axis, places, edit, bias[1][0].name if bias else None)
        if architecture.tied and architecture.head and module is model.get_input_embeddings():
            # As the head, the same matrix reads the stream along its last axis.
            head = target_kind(model.get_submodule(architecture.head), "weight")
            yield PeftTarget(architecture.head, "weight", head, axis, places, edit)


def target_kind(module: nn.Module, name: str) -> TargetKind:
    """Return by which of its means PEFT adapts a parameter exactly as the module uses it."""
    forward = type(module).forward
    if name == "weight" and forward is nn.Linear.forward:
        return "linear"
    if name == "weight" and isinstance(module, Conv1D):
        return "conv1d"
    # PEFT looks rows up by the input itself and multiplies them by `embed_scale`; where the model does more (OPT counts
    # positions from a mask), the weight is adapted instead.
    scaled = isinstance(module, nn.Embedding) and hasattr(module, "embed_scale")
    return "embedding" if name == "weight" and (forward is nn.Embedding.forward or scaled) else "parameter"


def check_biases(targets: Sequence[PeftTarget], model: PreTrainedModel, changed: Sequence[PeftTarget]) -> None:
    """Raise InputError when the biases of `changed` cannot be in one adapter with the other targets.

    PEFT gives every module of an adapter a bias or none, has none for embeddings and parameters, and does not merge
    one into a module that has no bias.
    """
    for target in targets if changed else ():
        bias, other = f"{changed[0].module}.bias", target.parameter
        if target.kind in ("embedding", "parameter"):
            raise InputError(
                f"{bias}: PEFT cannot adapt a bias (lora_bias) in one adapter with {other}, which is no linear layer; "
                f"leave one of the two out with --sites; or {WAY_OUT}"
            )
        if model.get_submodule(target.module).bias is None:
            raise InputError(
                f"{bias}: PEFT cannot adapt a bias (lora_bias) in one adapter with {other}, whose layer has none; "
                f"leave one of the two out with --sites; or {WAY_OUT}"
            )
