"""The role of a parameter: on which axis it writes, in which layer, as its like in the clone."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.architectures.parameter_roles import in_layer, layer_kinds, layer_place
from abliterate.architectures.trace import Gain
from abliterate.errors import ArchitectureError
from fixtures.empty_models import class_of, empty
from fixtures.models import random_model


def test_residual_axes_are_where_the_output_is(model: PreTrainedModel) -> None:
    for writer in find_architecture(model).writers:
        for one in writer.parameters:
            parameter = model.get_submodule(writer.module).get_parameter(one.name)
            assert parameter.shape[one.axis] == 48
            assert one.stored_axis == one.axis


def test_output_biases_are_written_too() -> None:
    writers = find_architecture(random_model("gpt2")).writers
    assert {one.name for writer in writers for one in writer.parameters} == {"weight", "bias"}


@pytest.mark.parametrize(("model_type", "axis"), [("mixtral", -2), ("gpt_oss", -1)])
def test_both_orders_of_fused_experts_are_told_apart(model_type: str, axis: int) -> None:
    writers = find_architecture(empty(model_type, num_hidden_layers=2)).writers
    experts = [one for writer in writers if writer.module.endswith("experts") for one in writer.parameters]
    assert {one.axis for one in experts if one.name == "down_proj"} == {axis}


def test_unfused_experts_on_disk_have_an_axis_of_their_own() -> None:
    writers = find_architecture(empty("mixtral", num_hidden_layers=2)).writers
    stored = [one.stored_axis for writer in writers if writer.module.endswith("experts") for one in writer.parameters]
    assert set(stored) == {-2}  # experts.N.w2.weight is [d_model, in]


def test_layers_of_different_kinds_keep_their_own_gains() -> None:
    # In OLMo hybrid only attention layers have norms behind their writers; both kinds call their MLP the same.
    found = find_architecture(random_clone(*class_of("olmo_hybrid"))).writers
    plain = {writer.layer: writer.plain for writer in found if writer.module.endswith("mlp.down_proj")}
    assert set(plain.values()) == {True, False}


def test_a_layer_that_the_clone_does_not_know_is_refused() -> None:
    model = empty("llama", num_hidden_layers=3)
    model.model.layers[1].extra = torch.nn.Linear(8, 8, device="meta")
    with pytest.raises(ArchitectureError, match=r"layers\.1\.extra\.(bias|weight): its small clone has no layer like"):
        find_architecture(model)


def test_the_place_of_a_parameter_in_its_layer() -> None:
    assert layer_place("model.layers.12.mlp.down_proj.weight", "model.layers") == (12, "mlp.down_proj.weight")
    assert layer_place("model.layers.3.mlp.experts.7.w2.weight", "model.layers") == (3, "mlp.experts.#.w2.weight")
    assert layer_place("model.norm.weight", "model.layers") == (None, "model.norm.weight")
    assert layer_place("other.layers.3.x.weight", "model.layers") == (None, "other.layers.#.x.weight")


def test_layers_are_of_a_kind_by_the_names_in_them() -> None:
    names = ["h.0.a.w", "h.1.a.w", "h.2.b.w", "h.2.a.w", "wte.w"]
    kinds = layer_kinds(names, "h")
    assert kinds[0] == kinds[1] == {"a.w"}
    assert kinds[2] == {"a.w", "b.w"}
    assert kinds[None] == {"wte.w"}


def test_gains_have_the_number_of_their_layer() -> None:
    gains = (Gain("h.0.norm.weight"), Gain("norm.weight"))
    assert [one.parameter for one in in_layer(gains, "h", 5)] == ["h.5.norm.weight", "norm.weight"]
    assert [one.parameter for one in in_layer(in_layer(gains, "h", "*"), "h", 2)] == ["h.2.norm.weight", "norm.weight"]
    assert in_layer(gains, "h", None) == gains
