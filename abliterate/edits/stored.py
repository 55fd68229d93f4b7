"""A model's parameters as a checkpoint holds them: under which names, with which axes, quantised or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from abliterate.architectures.architecture import Parameter, Writer
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.key_mapping import stored_names
from abliterate.checkpoints.quantized_weight import QuantizedWeight, quantized_weights
from abliterate.errors import ArchitectureError, CheckpointError


@dataclass(frozen=True)
class StoredPlace:
    """Where (a part of) a parameter is stored: the name, shape and residual axis that it has there, unquantised.

    `weight` is how it is quantised, and `converted` whether transformers changes its layout when it is loaded.
    """

    name: str
    shape: tuple[int, ...]
    axis: int
    converted: bool
    weight: QuantizedWeight | None


@dataclass(frozen=True)
class Stored:
    """The parameters of a model as a checkpoint holds them; `names` as `layout.stored_names` gives them.

    A quantised weight goes by the name that it has unquantised; `quantized` says what it is stored in.
    """

    model: PreTrainedModel
    checkpoint: Checkpoint
    names: Mapping[str, list[tuple[str, bool]]]
    quantized: Mapping[str, QuantizedWeight]

    @classmethod
    def of(cls, model: PreTrainedModel, checkpoint: Checkpoint) -> Stored:
        """Resolve the names of `model` in `checkpoint`. Raises CheckpointError for a format that is not read."""
        quantized = quantized_weights(checkpoint)
        parts = {name for one in quantized.values() for name in (one.tensors.values, one.tensors.scales)}
        plain = [name for name in checkpoint.tensors if name not in parts]
        return cls(model, checkpoint, stored_names(model, [*plain, *quantized]), quantized)

    def read(self, name: str) -> Tensor:
        """Read a parameter that is stored as it is. Raises CheckpointError when it is not there."""
        stored = self.named(name)[0]
        if stored in self.quantized:
            return self.quantized[stored].dequantized()
        return self.checkpoint.read(self.checked(stored, self.model.get_parameter(name).shape))

    def named(self, name: str) -> list[str]:
        """Return the names on disk of a parameter, those of parameters that are tied to it included."""
        parameter = self.model.get_parameter(name)
        same = [other for other, one in self.model.named_parameters(remove_duplicate=False) if one is parameter]
        found = [stored for other in same for stored, _ in self.names.get(other, [])]
        if not found:
            raise CheckpointError(
                f"{self.checkpoint.folder}: tensor {name}, which writes to the residual stream, is missing; "
                "download the model again"
            )
        return found

    def places(self, writer: Writer, parameter: Parameter) -> Iterator[StoredPlace]:
        """Yield where a writer's parameter is stored."""
        name = f"{writer.module}.{parameter.name}"
        converted = {stored: is_converted for one in self.names.values() for stored, is_converted in one}
        for stored in self.named(name):
            shape, axis = tuple(self.model.get_parameter(name).shape), parameter.axis
            if converted[stored]:
                if parameter.stored_axis is None:
                    raise ArchitectureError(
                        f"{stored}: is stored together with tensors that do not write; not supported yet"
                    )
                shape, axis = converted_shape(self.model, name), parameter.stored_axis
            self.checked(stored, shape)
            yield StoredPlace(stored, shape, axis, converted[stored], self.quantized.get(stored))

    def checked(self, stored: str, shape: Sequence[int]) -> str:
        """Return the name of a tensor after a look at its shape and dtype. Raises CheckpointError."""
        where = f"{self.checkpoint.folder}: tensor {stored} is"
        if stored in self.quantized:
            found = self.quantized[stored].shape()
            if found != tuple(shape):
                raise CheckpointError(
                    f"{where} quantised of shape {found}, expected {tuple(shape)}; config and weights belong to "
                    "different models"
                )
            return stored
        entry = self.checkpoint.tensors[stored]
        floats = entry.torch_dtype.is_floating_point and entry.torch_dtype.itemsize >= 2
        if tuple(entry.shape) != tuple(shape) or not floats:
            raise CheckpointError(
                f"{where} {entry.dtype} {tuple(entry.shape)}, expected floats "
                f"{tuple(shape)}; config and weights belong to different models, or the weights are quantised"
            )
        return stored

    def beside(self, writer: Writer) -> list[QuantizedWeight]:
        """Return the other quantised weights of a writer's module: of fused experts, what goes into them."""
        own = {parameter.name for parameter in writer.parameters}
        others = [
            name
            for name, _ in self.model.get_submodule(writer.module).named_parameters(recurse=False)
            if name not in own
        ]
        stored = [name for other in others for name, _ in self.names.get(f"{writer.module}.{other}", [])]
        return [self.quantized[name] for name in stored if name in self.quantized]

    def left_alone(self) -> tuple[str, ...]:
        """Return the tensors that the model does not load."""
        loaded = {name for one in self.names.values() for name, _ in one}
        for name, weight in self.quantized.items():
            if name in loaded:
                loaded |= {weight.tensors.values, weight.tensors.scales}
        return tuple(name for name in self.checkpoint.tensors if name not in loaded)


def converted_shape(model: PreTrainedModel, name: str) -> tuple[int, ...]:
    """Return the shape of the tensors that a parameter is stored as, where loading converts them."""
    stored = revert_weight_conversion(model, {name: model.get_parameter(name).detach().to("meta")})
    return tuple(next(iter(stored.values())).shape)
