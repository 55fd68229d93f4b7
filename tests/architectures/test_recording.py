"""One forward pass, remembered: modules in their order, and the list of decoder layers among all lists."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.recording import record, recorded_layers
from abliterate.errors import ArchitectureError

INPUTS = {"input_ids": torch.tensor([[5, 9, 33]])}


def hook_count(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_modules_are_remembered_in_the_order_they_ran(llama: PreTrainedModel) -> None:
    recording = record(llama, INPUTS)
    layers = [name for name in recording.calls if name.startswith("model.layers.") and name.count(".") == 2]
    assert layers == [f"model.layers.{layer}" for layer in range(4)]
    assert recording.calls[:2] == ["", "model"]
    assert torch.equal(recording.inputs["model.layers.2"], recording.outputs["model.layers.1"])
    assert torch.equal(recording.outputs[""], llama(**INPUTS, use_cache=False).logits)
    assert recording.modules[recording.outputs["model.layers.3"].grad_fn] in ("model.layers.3", "model.layers.3.mlp")
    assert hook_count(llama) == 0


def test_the_decoder_is_the_list_with_most_weights_that_runs_once(llama: PreTrainedModel) -> None:
    llama.model.others = torch.nn.ModuleList([torch.nn.Linear(48, 48) for _ in range(9)])  # which never run
    assert recorded_layers(llama, record(llama, INPUTS), 48) == "model.layers"


def test_a_model_without_such_a_list_is_refused(llama: PreTrainedModel) -> None:
    recording = record(llama, INPUTS)
    with pytest.raises(ArchitectureError, match="llama: has no list of decoder layers; it is no residual decoder"):
        recorded_layers(llama, recording, 47)


def test_layers_that_run_twice_have_no_place(llama: PreTrainedModel) -> None:
    llama.model.layers[2] = llama.model.layers[1]
    with pytest.raises(ArchitectureError, match="not every layer runs just once"):
        recorded_layers(llama, record(llama, INPUTS), 48)


def test_a_model_that_does_not_run_is_one_line(llama: PreTrainedModel) -> None:
    with pytest.raises(ArchitectureError, match=r"llama: a small clone of it does not run on text \(") as caught:
        record(llama, {"input_ids": torch.tensor([[500]])})
    assert "\n" not in str(caught.value)
    assert hook_count(llama) == 0
