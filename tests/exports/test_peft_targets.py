"""What an adapter of PEFT can hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.errors import InputError
from abliterate.exports.peft_targets import target_kind
from abliterate.interventions.recipe import Recipe
from abliterate.proofs.census import class_and_config, published_config
from fixtures.models import random_model
from fixtures.peft_adapters import Made, check, fractions

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft asks transformers for it
    pytest.mark.filterwarnings(
        "ignore:Model (has|with) .*tie_word_embeddings=True:UserWarning"
    ),  # of merging: see `untie`
]


@pytest.mark.parametrize("sites", [("embed",), ("attn",), ("attn", "mlp")], ids="+".join)
def test_conv1d_with_biases_and_learned_positions(sites: tuple[str, ...], tmp_path: Path) -> None:
    check(Made(random_model("gpt2"), tmp_path, fractions(4, *sites), 2))


def test_linear_layers_with_biases(tmp_path: Path) -> None:
    model = random_model("llama", attention_bias=True, mlp_bias=True)
    made = Made(model, tmp_path, fractions(4, "attn", "mlp"))
    check(made)
    assert json.loads((made.adapter / "adapter_config.json").read_text())["lora_bias"] is True


# PEFT counts only modules when it looks for what a rank pattern matches; it does use it for parameters.
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize(
    ("model_type", "sites"),
    [
        ("mixtral", ()),
        ("qwen2_moe", ()),  # a shared expert, whose name PEFT takes for that of an expert
        ("llama4_text", ()),  # the residual on the last axis
        ("gpt_oss", ("mlp",)),  # a bias for each expert
        ("opt", ("embed",)),  # positions that are counted inside the embedding
        ("inkling_text", ()),  # bases of several ranks
    ],
)
def test_experts_and_embeddings_by_their_parameters(model_type: str, sites: tuple[str, ...], tmp_path: Path) -> None:
    model = random_clone(*class_and_config(model_type, published_config(model_type)))
    check(Made(model, tmp_path, fractions(find_architecture(model).depth, *sites), 2))


@pytest.mark.parametrize(
    ("model_type", "sites", "message"),
    [
        ("gpt2", (), r"c_proj.bias: PEFT cannot adapt a bias \(lora_bias\) in one adapter with transformer.wpe.weight, "
                     r"which is no linear layer; leave one of the two out with --sites; or write an edited checkpoint"),
        ("codegen", (), r"fc_out.bias: PEFT cannot adapt a bias .* with transformer.h.0.attn.out_proj.weight, whose layer has none"),
        ("bloom", (), r"word_embeddings_layernorm.bias: a vector outside of a linear layer \(LayerNorm\), which LoRA cannot add to"),
        ("falcon_mamba", (), r"PEFT does not adapt this model: .*'out_proj' is incompatible with Mamba.*; write an edited checkpoint"),
        ("dbrx", (), r"dbrx: a small model of this kind does not run with an adapter \('ParamWrapper' object has no attribute 'v1'\)"),
        ("laguna", (), r"laguna: on a small model of this kind an adapter is not exact \(relative difference of the logits "),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)  # fmt: skip
def test_what_no_adapter_holds_exactly_is_refused(
    model_type: str, sites: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    model = random_clone(*class_and_config(model_type, published_config(model_type)))
    made = Made(model, tmp_path, Recipe.uniform(0.7))
    with pytest.raises(InputError, match=message):
        made.write()
    assert {path.name for path in tmp_path.iterdir()} == {"base"}


def test_by_which_of_its_means_peft_adapts_a_weight() -> None:
    class Positions(nn.Embedding):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input + 2)

    class Scaled(Positions):
        embed_scale = 3.0

    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    class Named(nn.Linear):
        """Another name, the same use."""

    kinds = {
        nn.Linear(2, 3): "linear", Named(2, 3): "linear", Doubled(2, 3): "parameter", Conv1D(2, 3): "conv1d",
        nn.Embedding(4, 2): "embedding", Positions(4, 2): "parameter", Scaled(4, 2): "embedding",
    }  # fmt: skip
    for module, kind in kinds.items():
        assert target_kind(module, "weight") == kind, type(module)
        assert target_kind(module, "other") == "parameter"
