"""Names of writers in llama.cpp."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.plan import make_plan
from abliterate.errors import InputError
from abliterate.exports.gguf_adapter import write_gguf_adapter
from abliterate.exports.gguf_names import ARCHITECTURES, names_of_architecture
from abliterate.interventions.recipe import Recipe
from abliterate.proofs.census import class_and_config, published_config
from fixtures.gguf_adapters import INSIDE, Small

gguf = pytest.importorskip("gguf")


def test_every_architecture_of_the_table_is_one_of_llama_cpp() -> None:
    assert set(ARCHITECTURES.values()) <= set(gguf.MODEL_ARCH_NAMES.values())


@pytest.mark.parametrize("family", sorted(ARCHITECTURES.keys() - {"gpt2", "gpt_oss"}))
def test_every_writer_of_the_table_has_a_name_in_llama_cpp(family: str, tmp_path: Path) -> None:
    model = random_clone(*class_and_config(family, published_config(family)))
    model.save_pretrained(tmp_path)
    found, checkpoint = find_architecture(model), Checkpoint.open(tmp_path)
    direction = torch.nn.functional.normalize(torch.ones(found.d_model), dim=0)
    plan = make_plan(Recipe.uniform(), direction, found, model, checkpoint)
    written = write_gguf_adapter(plan, checkpoint, found, tmp_path / "adapter.gguf", leave_out=["embed"])
    assert written.left_out == ("model.embed_tokens.weight",)
    assert {name.split(".", 2)[2].split("_")[0] for name in written.tensors} == {"attn", "ffn"}
    assert {name.split(".")[1] for name in written.tensors} == {str(layer) for layer in range(found.depth)}


@pytest.mark.parametrize("prefix", ["model.", "language_model.model.", "model.language_model."])
def test_the_text_decoder_of_a_multimodal_model_has_the_same_names(prefix: str) -> None:
    named = names_of_architecture("gemma3_text", 4)
    found = named(f"{prefix}layers.3.self_attn.o_proj.weight")
    assert found is not None
    assert found.name == "blk.3.attn_output.weight"


def test_a_family_that_is_not_known_is_refused(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    other = replace(qwen, architecture=replace(qwen.architecture, model_type="falcon_h1"))
    with pytest.raises(InputError, match=r"falcon_h1: not known how llama.cpp stores its writers; known are arcee, "):
        other.write(qwen.plan(INSIDE, basis), tmp_path / "adapter.gguf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.layers.0.mystery.weight", "mystery.weight: llama.cpp has no name for it"),
        ("model.layers.0.mlp.experts.down_proj", "experts that are stored as one tensor are not supported"),
    ],
)
def test_a_tensor_that_llama_cpp_does_not_know_is_refused(
    qwen: Small, basis: Tensor, tmp_path: Path, name: str, message: str
) -> None:
    plan = qwen.plan(INSIDE, basis)
    edits = {name: replace(next(iter(plan.edits.values())), name=name)}
    moe = replace(qwen, architecture=replace(qwen.architecture, model_type="qwen3_moe"))
    with pytest.raises(InputError, match=message):
        moe.write(replace(plan, edits=edits), tmp_path / "adapter.gguf")
