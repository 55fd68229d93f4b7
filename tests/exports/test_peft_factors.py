"""The factors of an adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.exports.peft_adapter import prepare_adapter
from abliterate.exports.peft_factors import FactoredLayer, named_factors
from abliterate.interventions.recipe import Recipe
from fixtures.models import random_model
from fixtures.peft_adapters import Made, check

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft asks transformers for it
    pytest.mark.filterwarnings(
        "ignore:Model (has|with) .*tie_word_embeddings=True:UserWarning"
    ),  # of merging: see `untie`
]


def test_at_strength_1_and_of_rank_1(llama: PreTrainedModel, tmp_path: Path) -> None:
    check(Made(llama, tmp_path, Recipe.uniform()))


def test_biases_that_do_not_write_along_the_basis_need_none(tmp_path: Path) -> None:
    model = random_model("llama", attention_bias=True)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.bias.zero_()
    check(Made(model, tmp_path, Recipe.uniform()))


def test_factors_that_peft_would_not_load_are_not_written(llama: PreTrainedModel, tmp_path: Path) -> None:
    made = Made(llama, tmp_path, Recipe.uniform())
    target = prepare_adapter(made.plan, made.empty, made.architecture, made.checkpoint, "base", None).targets[0]
    pair = torch.zeros(1, 97), torch.zeros(48, 1)
    for layers in ({}, {target.parameter: FactoredLayer(("a", "b"), ((1, 97), (47, 1)))}):
        with pytest.raises(InputError, match=r"embed_tokens.weight: the edit has factors of .*\(48, 1\)\), PEFT "):
            named_factors(target, layers, pair)
