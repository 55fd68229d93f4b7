from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, LlamaForCausalLM

from abliterate.architectures.clone import D_MODEL, clone_inputs, random_clone, shrink
from abliterate.errors import ArchitectureError
from abliterate.proofs.census import class_and_config, published_config

HYBRIDS = ["deepseek_v3", "jamba", "lfm2_moe", "nemotron_h", "gemma4_text", "qwen3_5_text", "zamba2"]


def small(model_type: str) -> dict[str, object]:
    return shrink(class_and_config(model_type, published_config(model_type))[1]).to_dict()


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma3n_text", "qwen2_vl", *HYBRIDS])
def test_a_small_config_stays_as_it_is(model_type: str) -> None:
    _, config = class_and_config(model_type, published_config(model_type))
    once = shrink(config)
    assert shrink(once).to_dict() == once.to_dict()


def test_every_kind_of_layer_stays() -> None:
    config = published_config("gemma4_text")
    small_config = shrink(config)
    assert set(small_config.layer_types) == set(config.layer_types)
    assert len(small_config.layer_types) == small_config.num_hidden_layers


def test_the_first_layers_of_another_kind_stay_the_first() -> None:
    assert small("deepseek_v3")["first_k_dense_replace"] == 1
    assert small("deepseek_v3")["num_hidden_layers"] == 2


def test_no_other_width_is_that_of_the_stream() -> None:
    clone = random_clone(LlamaForCausalLM, AutoConfig.for_model("llama", head_dim=128))
    sizes = {name: set(parameter.shape) - {D_MODEL} for name, parameter in clone.named_parameters()}
    assert all(own for name, own in sizes.items() if "norm" not in name)  # no matrix is square
    assert D_MODEL not in (
        clone.config.vocab_size,
        clone.config.intermediate_size,
        clone_inputs(clone)["input_ids"].numel(),
    )


def test_norms_and_biases_are_random() -> None:
    clone = random_clone(*class_and_config("gpt2", published_config("gpt2")))
    vectors = [one.detach() for _, one in clone.named_parameters() if one.dim() == 1 and one.numel() > 1]
    assert all(float(one.std()) > 0.1 for one in vectors)


def test_the_same_seed_gives_the_same_clone_and_leaves_the_caller_s_random_numbers_alone() -> None:
    config = AutoConfig.for_model("llama")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, other = (random_clone(LlamaForCausalLM, config).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_shrunk_says_why() -> None:
    config = AutoConfig.for_model("llama")
    config.hidden_act = "no such activation"
    with pytest.raises(ArchitectureError, match=r"llama: no small clone of it can be built .*no such activation"):
        random_clone(LlamaForCausalLM, config)


def test_a_width_that_no_rule_knows_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="its small clone still has"):
        random_clone(*class_and_config("reformer", published_config("blt")))
