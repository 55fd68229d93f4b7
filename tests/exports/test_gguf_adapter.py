"""The adapter and the control vector: laws on the files, and what the real llama.cpp makes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.activations.capture import capture
from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.quantized_weight import quantized_weights
from abliterate.directions.methods import projected_difference_in_means
from abliterate.edits.in_place import orthogonalize
from abliterate.edits.plan import EditPlan, make_plan
from abliterate.errors import InputError
from abliterate.exports.gguf_adapter import write_gguf_adapter
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.models.source import resolve
from abliterate.progress import Advance
from abliterate.projection import project_out
from abliterate.replies.refusals import is_refusal
from fixtures.folders import SHARED
from fixtures.gguf_adapters import INSIDE, SERVED, Chat, Small, close, fields, last_logits, small, tensors
from fixtures.models import random_model
from fixtures.quantized_models import quantise_checkpoint, random_checkpoint, save_direction
from servers.llama_lora import LlamaFailed, chat_served
from servers.llama_server import TINY_CHAT

gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")
INSIDE_OF_THREE = Recipe({"attn": 1.0, "mlp": (1.0, 0.4, -0.7)})
EVERYWHERE = replace(INSIDE, strengths={**INSIDE.strengths, "embed": 0.8})


@dataclass
class Counter:
    """A progress that counts, and is interrupted after `last` units."""

    last: int = 1000
    done: int = 0
    total: int = 0

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        self.total += total
        yield self.advance

    def advance(self, units: int) -> None:
        self.done += units
        if self.done > self.last:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", params=sorted(SERVED))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small(request.param, tmp_path_factory.mktemp(request.param))


# The files.


def test_the_product_of_the_factors_is_the_edit(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    plan = qwen.plan(EVERYWHERE, basis)
    written = qwen.write(plan, tmp_path / "adapter.gguf")
    held = tensors(tmp_path / "adapter.gguf")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 4)
    assert written.rank == 2
    assert written.left_out == ()
    assert len(held) == 2 * len(plan.edits) == 2 * len(written.tensors)
    for edit in plan.edits.values():
        weight = qwen.checkpoint.read(edit.name).float()
        name = names.get_name(edit.name, try_suffixes=(".weight",))
        a, b = (torch.from_numpy(held[f"{name}.lora_{letter}"]) for letter in "ab")
        product = a @ b.T if edit.site == "embed" else b @ a
        delta = project_out(weight, edit.basis, edit.strength, edit.axis) - weight
        assert torch.equal(b, -edit.strength * basis.T)
        torch.testing.assert_close(product, delta, rtol=0, atol=2e-6)


def test_directions_with_their_own_strengths_are_in_the_factors(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    plan = qwen.plan(Recipe(({"attn": 1.0, "mlp": 0.5}, {"attn": 0.25, "mlp": 0.5})), basis)
    qwen.write(plan, tmp_path / "adapter.gguf")
    held = tensors(tmp_path / "adapter.gguf")
    for edit in plan.edits.values():
        weight = qwen.checkpoint.read(edit.name).float()
        name = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 4).get_name(edit.name, try_suffixes=(".weight",))
        a, b = (torch.from_numpy(held[f"{name}.lora_{letter}"]) for letter in "ab")
        strengths = torch.tensor([1.0, 0.25] if edit.site == "attn" else [0.5, 0.5])
        torch.testing.assert_close(b @ a, -basis.T @ (strengths[:, None] * (basis @ weight)), rtol=0, atol=2e-6)


def test_the_file_says_what_llama_cpp_wants_to_know(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    written = qwen.write(qwen.plan(INSIDE, basis), tmp_path / "adapter.gguf")
    assert fields(written.path) == {
        "general.architecture": "qwen2",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 2.0,
    }
    assert written.nbytes == written.path.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.gguf"]


def test_sites_that_are_left_out_are_named(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    plan = qwen.plan(EVERYWHERE, basis)
    written = qwen.write(plan, tmp_path / "adapter.gguf", leave_out=["embed", "mlp"])
    assert written.tensors == tuple(f"blk.{layer}.attn_output.weight" for layer in range(4))
    assert written.left_out == tuple(name for name, edit in plan.edits.items() if edit.site != "attn")
    with pytest.raises(InputError, match="nothing is left to put into the adapter"):
        qwen.write(plan, tmp_path / "other.gguf", leave_out=["embed", "attn", "mlp"])


def test_a_shorter_basis_is_padded_to_the_rank_of_all(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    plan = qwen.plan(INSIDE, basis)
    name = next(iter(plan.edits))
    shorter = replace(plan.edits[name], basis=basis[:1])
    written = qwen.write(replace(plan, edits={**plan.edits, name: shorter}), tmp_path / "adapter.gguf")
    shapes = {tensor.shape for key, tensor in tensors(written.path).items() if key.endswith("lora_b")}
    assert shapes == {(48, 2)}
    assert not tensors(written.path)["blk.0.ffn_down.weight.lora_b"][:, 1].any()


def test_progress_counts_the_tensors(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    counter = Counter()
    qwen.write(qwen.plan(INSIDE, basis), tmp_path / "adapter.gguf", progress=counter)
    assert counter.done == counter.total == 8


def test_nothing_is_overwritten_without_force(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    out, plan = tmp_path / "adapter.gguf", qwen.plan(INSIDE, basis)
    out.write_text("mine")
    with pytest.raises(InputError, match=r"adapter.gguf exists; pass --force to replace it"):
        qwen.write(plan, out)
    assert out.read_text() == "mine"
    qwen.write(plan, out, force=True)
    assert fields(out)["adapter.type"] == "lora"


def test_a_place_where_nothing_can_be_written_is_refused(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    plan = qwen.plan(INSIDE, basis)
    with pytest.raises(InputError, match=r"is a folder; give the name of a .gguf file"):
        qwen.write(plan, tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        qwen.write(plan, tmp_path / "nowhere" / "adapter.gguf")
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)"):
        qwen.write(plan, tmp_path / f"{'a' * 252}.gguf")
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        qwen.write(qwen.plan(INSIDE, basis), tmp_path / "adapter.gguf", progress=Counter(last=3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("edited_dtype", [None, "bf16"])
def test_quantised_weights_give_the_edit_of_what_they_hold(tmp_path: Path, edited_dtype: str | None) -> None:
    folder = quantise_checkpoint(random_checkpoint("qwen3_moe", tmp_path / "model"), "fp8 block")
    checkpoint = Checkpoint.open(folder)
    empty = resolve(str(folder)).empty
    architecture, direction = find_architecture(empty), save_direction(tmp_path / "directions.safetensors")
    plan = make_plan(INSIDE_OF_THREE, direction, architecture, empty, checkpoint, edited_dtype)
    written = write_gguf_adapter(plan, checkpoint, architecture, tmp_path / "adapter.gguf")
    held = tensors(written.path)
    assert len(written.tensors) == 6
    down = held["blk.1.ffn_down_exps.weight.lora_b"] @ held["blk.1.ffn_down_exps.weight.lora_a"]
    weights = quantized_weights(checkpoint)
    for expert in range(4):
        weight = weights[f"model.layers.1.mlp.experts.{expert}.down_proj.weight"].dequantized()
        delta = project_out(weight, direction, 0.4, 0) - weight
        torch.testing.assert_close(torch.from_numpy(down[expert]), delta, rtol=0, atol=2e-6)


# What llama.cpp cannot do.


def refused(
    family: str, folder: Path, basis: Tensor, message: str, recipe: Recipe = EVERYWHERE, **changes: Any
) -> None:
    model = random_model(family, **changes)
    model.save_pretrained(folder)
    found, checkpoint = find_architecture(model), Checkpoint.open(folder)
    plan = make_plan(recipe, basis, found, model, checkpoint)
    with pytest.raises(InputError, match=message):
        write_gguf_adapter(plan, checkpoint, found, folder / "adapter.gguf")
    assert not (folder / "adapter.gguf").exists()


def test_biases_are_refused(tmp_path: Path, basis: Tensor) -> None:
    refused("llama", tmp_path, basis, r"o_proj.bias: is a bias, which an adapter", INSIDE, attention_bias=True)


def test_position_embeddings_are_refused(tmp_path: Path, basis: Tensor) -> None:
    only = Recipe({"embed": 1.0})
    refused("gpt2", tmp_path, basis, r"wpe.weight: llama.cpp adds no adapter to its position_embd.weight", only)


def test_a_tied_embedding_is_refused(tmp_path: Path, basis: Tensor) -> None:
    message = r"embed_tokens.weight: is the head too \(tied embeddings\), and llama.cpp cannot add an adapter to both"
    refused("llama", tmp_path, basis, message, tie_word_embeddings=True)


def test_a_gguf_of_another_model_is_refused(qwen: Small, basis: Tensor, tmp_path: Path) -> None:
    plan, out = qwen.plan(INSIDE, basis), tmp_path / "adapter.gguf"
    narrow = small("qwen2", tmp_path / "narrow", intermediate_size=64)
    with pytest.raises(
        InputError, match=r"ffn_down.weight: has shape \(64, 48\) in the GGUF file, expected \(80, 48\)"
    ):
        qwen.write(plan, out, base=narrow.gguf)
    shallow = small("qwen2", tmp_path / "shallow", num_hidden_layers=3)
    with pytest.raises(InputError, match=r"blk.3.\w+.weight: has shape None in the GGUF file"):
        qwen.write(plan, out, base=shallow.gguf)
    with pytest.raises(InputError, match="is of architecture olmo2, expected qwen2"):
        qwen.write(plan, out, base=small("olmo2", tmp_path / "olmo2").gguf)
    with pytest.raises(InputError, match="cannot be read as a GGUF file"):
        qwen.write(plan, out, base=tmp_path / "nothing.gguf")
    assert not out.exists()


# The adapter in llama.cpp.


def test_llama_cpp_with_the_adapter_is_the_edited_model(served: Small, basis: Tensor, tmp_path: Path) -> None:
    written = served.write(served.plan(EVERYWHERE, basis), tmp_path / "adapter.gguf", base=served.gguf)
    original = last_logits(served.model)
    with ablated(served.model, basis, EVERYWHERE, served.architecture) as hooked:
        edited = last_logits(hooked)
    assert not close(original, edited)
    assert close(served.logits(), original)
    assert close(served.logits(adapter=(written.path, 1.0)), edited)
    assert close(served.logits(adapter=(written.path, 0.0)), original)


@pytest.mark.parametrize("scale", [-1.0, 0.5])
def test_the_scale_multiplies_the_strengths(qwen: Small, basis: Tensor, tmp_path: Path, scale: float) -> None:
    written = qwen.write(qwen.plan(Recipe.uniform(), basis), tmp_path / "adapter.gguf")
    with ablated(qwen.model, basis, Recipe.uniform(scale), qwen.architecture) as hooked:
        assert close(qwen.logits(adapter=(written.path, scale)), last_logits(hooked))


def test_llama_cpp_ends_where_a_tied_embedding_has_an_adapter(basis: Tensor, tmp_path: Path) -> None:
    """What the refusal of tied embeddings rests on; once llama.cpp can do it, this test says so."""
    tied = small("gemma3_text", tmp_path / "model", own_output=False)
    plan, out = tied.plan(EVERYWHERE, basis), tmp_path / "adapter.gguf"
    with pytest.raises(InputError, match="is the head too"):
        tied.write(plan, out, base=tied.gguf)
    untied = replace(tied, architecture=replace(tied.architecture, tied=False))
    untied.write(plan, out)
    with pytest.raises(LlamaFailed, match="ggml_can_mul_mat"):
        tied.logits(adapter=(out, 1.0))


def tiny_plan(chat: Chat, recipe: Recipe) -> tuple[EditPlan, Checkpoint, Architecture]:
    architecture, checkpoint = find_architecture(chat.model), Checkpoint.open(TINY_CHAT)
    return make_plan(recipe, chat.directions[4], architecture, chat.model, checkpoint), checkpoint, architecture


@pytest.mark.slow
def test_refusals_go_with_the_adapter_and_come_back_without_it(chat: Chat, tmp_path: Path) -> None:
    recipe = Recipe.uniform(1.0, ("attn", "mlp"))
    written = write_gguf_adapter(*tiny_plan(chat, recipe), tmp_path / "adapter.gguf")
    edited = AutoModelForCausalLM.from_pretrained(TINY_CHAT, dtype=torch.float32).eval()
    orthogonalize(edited, chat.directions[4], recipe)
    before, after = chat.here(chat.model), chat.here(edited)
    assert chat.refusals(before) == (12, 0)
    assert chat.refusals(after) == (0, 0)
    assert chat.served() == before
    assert chat.served(adapter=(written.path, 1.0)) == after
    assert chat.served(adapter=(written.path, 0.0)) == before


@pytest.mark.slow
def test_a_server_switches_the_adapter_from_request_to_request(chat: Chat, tmp_path: Path) -> None:
    written = write_gguf_adapter(*tiny_plan(chat, Recipe.uniform(1.0, ("attn", "mlp"))), tmp_path / "adapter.gguf")
    before, after, again = chat_served(
        chat.gguf, [*chat.harmful[:4], *chat.harmless[:2]], written.path, [0.0, 1.0, 0.0]
    )
    kept = [*range(4), 12, 13]
    assert before == again == [chat.served()[number] for number in kept]
    assert after == [chat.served(adapter=(written.path, 1.0))[number] for number in kept]
    assert list(map(is_refusal, before)) == [True] * 4 + [False] * 2
    assert not any(map(is_refusal, after))


# A real model.


@pytest.mark.models
def test_qwen_in_llama_cpp_stops_refusing(
    real_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, base = real_models / "qwen2.5-0.5b-it", real_models / "qwen2.5-0.5b-it.gguf"
    lists = SHARED / "data" / "prompts"
    if not base.is_file() or not lists.is_dir():
        pytest.skip("the GGUF file of Qwen or the published instruction lists are not there")

    def listed(name: str) -> list[str]:
        rows = json.loads((lists / f"{name}.json").read_text())
        return [row["instruction"] if isinstance(row, dict) else row for row in rows]

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    captured = [capture(model, tokenizer, listed(f"{side}_train")[:24]) for side in ("harmful", "harmless")]
    directions = projected_difference_in_means(*captured)
    checkpoint, architecture = Checkpoint.open(folder), find_architecture(model)
    plan = make_plan(Recipe.uniform(), directions[14], architecture, model, checkpoint)
    written = write_gguf_adapter(plan, checkpoint, architecture, tmp_path / "adapter.gguf", base=base)
    chat = Chat(model, tokenizer, directions, listed("harmful_val")[:12], [], base)
    before, after = (chat.refusals(chat.served(adapter=(written.path, scale)))[0] for scale in (0.0, 1.0))
    with capsys.disabled():
        sys.stdout.write(f"adapter {written.nbytes / 1e6:.2f} MB; refusals {before} of 12, then {after}\n")
    assert before >= 4
    assert after <= 1
