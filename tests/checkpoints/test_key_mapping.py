"""Names on disk: as they are, without a prefix, one for each expert; what a model does not load is in no list."""

from __future__ import annotations

from transformers import PreTrainedModel

from abliterate.checkpoints.key_mapping import stored_names
from fixtures.empty_models import empty


def test_a_name_that_is_stored_as_it_is(llama: PreTrainedModel) -> None:
    names = [name for name, _ in llama.named_parameters()]
    assert stored_names(llama, names) == {name: [(name, False)] for name in names}


def test_a_prefix_may_be_missing_or_too_much(llama: PreTrainedModel) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    assert stored_names(llama, ["layers.0.mlp.down_proj.weight"]) == {name: [("layers.0.mlp.down_proj.weight", False)]}
    body = llama.model
    assert stored_names(body, [name]) == {"layers.0.mlp.down_proj.weight": [(name, False)]}


def test_experts_that_are_fused_have_a_name_each() -> None:
    model = empty("mixtral", num_hidden_layers=1, num_local_experts=3, hidden_size=32, intermediate_size=48)
    on_disk = [f"model.layers.0.block_sparse_moe.experts.{expert}.w2.weight" for expert in range(3)]
    ((name, stored),) = stored_names(model, on_disk).items()
    assert name.endswith("experts.down_proj")
    assert stored == [(one, True) for one in on_disk]


def test_what_is_not_loaded_is_in_no_list(llama: PreTrainedModel) -> None:
    assert stored_names(llama, ["model.layers.9.mlp.down_proj.weight", "vision.weight"]) == {}
