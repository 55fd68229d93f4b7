"""The adapter and the control vector: laws on the files, and what the real llama.cpp makes of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.activations.capture import capture
from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.quantized_weight import quantized_weights
from abliterate.directions.directions import Directions
from abliterate.directions.methods import difference_in_means
from abliterate.edits.in_place import orthogonalize
from abliterate.edits.plan import EditPlan, make_plan
from abliterate.errors import InputError
from abliterate.exports.control_vector import write_control_vector
from abliterate.exports.gguf_adapter import GgufAdapter, write_gguf_adapter
from abliterate.exports.gguf_names import ARCHITECTURES, names_of_architecture
from abliterate.interventions import ablated, added
from abliterate.interventions.recipe import Recipe
from abliterate.models.source import resolve
from abliterate.progress import Advance
from abliterate.projection import project_out
from abliterate.proofs.census import class_and_config, published_config
from abliterate.replies.refusals import is_refusal
from fixtures.folders import SHARED
from fixtures.models import FAMILIES, SMALL, random_model
from fixtures.quantized_models import quantise_checkpoint, random_checkpoint, save_direction
from servers.llama_lora import LlamaFailed, ask, chat_served, model_gguf
from servers.llama_server import TINY_CHAT, tiny_gguf

gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

INSIDE = Recipe({"attn": 1.0, "mlp": (1.0, 0.4, -0.7, 1.3)})
INSIDE_OF_THREE = Recipe({"attn": 1.0, "mlp": (1.0, 0.4, -0.7)})
EVERYWHERE = replace(INSIDE, strengths={**INSIDE.strengths, "embed": 0.8})
TOKENS = [5, 9, 33, 71, 2, 60]
ROUNDING = 0.02
"""Relative to the largest logit: llama.cpp keeps keys and values in float16."""

SERVED: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", {}),
    "gemma3_text": ("gemma3", {"query_pre_attn_scalar": 12, "tie_word_embeddings": True}),
    "olmo2": ("olmo2", {}),
    "qwen2_moe": (
        "qwen2moe",
        {
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 40,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [],
        },
    ),
}
"""Plain; sandwich norms with a gain plus 1, tied; sandwich norms; experts and a shared one."""


@dataclass(frozen=True)
class Small:
    """A small random model in memory, on disk and as GGUF."""

    model: PreTrainedModel
    architecture: Architecture
    checkpoint: Checkpoint
    gguf: Path

    def plan(self, recipe: Recipe, basis: Tensor) -> EditPlan:
        return make_plan(recipe, basis, self.architecture, self.model, self.checkpoint)

    def write(self, plan: EditPlan, out: Path, **options: Any) -> GgufAdapter:
        return write_gguf_adapter(plan, self.checkpoint, self.architecture, out, **options)

    def logits(self, **options: Any) -> np.ndarray[Any, Any]:
        return ask(self.gguf, [TOKENS], **options)[0].logits


def small(family: str, folder: Path, own_output: bool = True, **changes: Any) -> Small:
    name, settings = SERVED[family]
    FAMILIES.setdefault("qwen2_moe", SMALL)
    model = random_model(family, **{**settings, **changes})
    model.save_pretrained(folder)
    found = model_gguf(folder, name, folder / "model.gguf", own_output and "tie_word_embeddings" in settings)
    return Small(model, find_architecture(model), Checkpoint.open(folder), found)


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


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small("qwen2", tmp_path_factory.mktemp("qwen2"))


@pytest.fixture
def basis() -> Tensor:
    rows = torch.randn(2, 48, generator=torch.Generator().manual_seed(3))
    return torch.linalg.qr(rows.T)[0].T.contiguous()


@torch.no_grad()
def last_logits(model: PreTrainedModel, tokens: Sequence[int] = TOKENS) -> np.ndarray[Any, Any]:
    logits: np.ndarray[Any, Any] = model(torch.tensor([list(tokens)])).logits[0, -1].float().numpy()
    return logits


def close(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return bool(np.abs(one - other).max() < ROUNDING * np.abs(other).max())


def tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {one.name: np.array(one.data) for one in gguf.GGUFReader(path).tensors}


def fields(path: Path) -> dict[str, Any]:
    return {name: one.contents() for name, one in gguf.GGUFReader(path).fields.items() if not name.startswith("GGUF.")}


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


def test_every_architecture_of_the_table_is_one_of_llama_cpp() -> None:
    assert set(ARCHITECTURES.values()) <= set(gguf.MODEL_ARCH_NAMES.values())


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
        qwen.write(plan, tmp_path / f"{'a' * 250}.gguf")
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


# The tiny chat model: replies, text by text.


@dataclass(frozen=True)
class Chat:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    directions: Directions
    harmful: list[str]
    harmless: list[str]
    gguf: Path

    @property
    def prompts(self) -> list[list[int]]:
        return [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
            )["input_ids"]
            for prompt in (*self.harmful, *self.harmless)
        ]

    def served(self, **options: Any) -> list[str]:
        answers = ask(self.gguf, self.prompts, tokens=24, stop=[self.tokenizer.eos_token_id], **options)
        return [self.tokenizer.decode(one.reply) for one in answers]

    @torch.no_grad()
    def here(self, model: PreTrainedModel) -> list[str]:
        found = []
        for prompt in self.prompts:
            tokens = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=24, do_sample=False
            )
            found.append(self.tokenizer.decode(tokens[0, len(prompt) :], skip_special_tokens=True))
        return found

    def refusals(self, replies: Sequence[str]) -> tuple[int, int]:
        flags = list(map(is_refusal, replies))
        return sum(flags[: len(self.harmful)]), sum(flags[len(self.harmful) :])


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAT)
    sides = [(TINY_CHAT / f"{side}.txt").read_text().splitlines() for side in ("harmful", "harmless")]
    captured = [capture(model, tokenizer, side[:32]) for side in sides]
    directions = difference_in_means(*captured, method="mean-difference")
    path = tiny_gguf(tmp_path_factory.mktemp("tiny"))
    return Chat(model, tokenizer, directions, sides[0][32:44], sides[1][32:44], path)


def tiny_plan(chat: Chat, recipe: Recipe) -> tuple[EditPlan, Checkpoint, Architecture]:
    architecture, checkpoint = find_architecture(chat.model), Checkpoint.open(TINY_CHAT)
    return make_plan(recipe, chat.directions[4], architecture, chat.model, checkpoint), checkpoint, architecture


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


# The control vector.


def test_the_control_vector_is_the_difference_itself(chat: Chat, tmp_path: Path) -> None:
    out = tmp_path / "control.gguf"
    assert write_control_vector(chat.directions, chat.model.config, out) == tuple(range(2, 9))
    held = tensors(out)
    assert set(held) == {f"direction.{number}" for number in range(1, 8)}
    for layer in range(2, 9):
        assert np.array_equal(held[f"direction.{layer - 1}"], chat.directions.difference(layer).numpy())
    assert fields(out) == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "llama",
        "controlvector.layer_count": 7,
    }


@pytest.mark.parametrize("layer", [2, 4, 7])
@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_llama_cpp_adds_what_added_adds(chat: Chat, tmp_path: Path, layer: int, scale: float) -> None:
    out = tmp_path / "control.gguf"
    write_control_vector(chat.directions, chat.model.config, out, layers=[layer])
    ids = chat.prompts[0]
    with added(chat.model, scale * chat.directions.difference(layer), layer) as hooked:
        expected = last_logits(hooked, ids)
    assert close(ask(chat.gguf, [ids], control=(out, scale))[0].logits, expected)
    assert not close(last_logits(chat.model, ids), expected)


def test_the_last_layer_can_be_reached(chat: Chat, tmp_path: Path) -> None:
    """`resid[L]` is what the final norm reads; `added` has no hook there."""
    out, vector, ids = tmp_path / "control.gguf", chat.directions.difference(8), chat.prompts[0]
    write_control_vector({8: vector}, chat.model.config, out)
    norm = chat.model.get_submodule("model.norm")
    hook = norm.register_forward_pre_hook(lambda module, args: (args[0] + vector, *args[1:]))
    expected = last_logits(chat.model, ids)
    hook.remove()
    assert close(ask(chat.gguf, [ids], control=(out, 1.0))[0].logits, expected)


@pytest.mark.parametrize(("scale", "refusals"), [(-1.0, (0, 0)), (0.5, (12, 5)), (0.0, (12, 0))])
def test_replies_are_those_of_the_hooks(chat: Chat, tmp_path: Path, scale: float, refusals: tuple[int, int]) -> None:
    out, vector = tmp_path / "control.gguf", chat.directions.difference(6)
    write_control_vector(chat.directions, chat.model.config, out, layers=[6])
    with added(chat.model, vector, 6, scale=scale) as hooked:
        expected = chat.here(hooked)
    assert chat.refusals(expected) == refusals
    assert chat.served(control=(out, scale)) == expected


@pytest.mark.parametrize("layer", [0, 1, 9])
def test_layers_that_llama_cpp_does_not_add_to_are_refused(chat: Chat, tmp_path: Path, layer: int) -> None:
    with pytest.raises(InputError, match=rf"resid\[{layer}\] cannot be reached by a control vector of llama.cpp"):
        write_control_vector({layer: torch.ones(160)}, chat.model.config, tmp_path / "control.gguf")


def test_what_does_not_fit_is_refused(chat: Chat, tmp_path: Path) -> None:
    config, out = chat.model.config, tmp_path / "control.gguf"
    with pytest.raises(InputError, match=r"resid\[3\] has shape \(48,\), the model d_model 160"):
        write_control_vector({3: torch.ones(48)}, config, out)
    with pytest.raises(InputError, match=r"there is no vector for resid\[5\]; there are 3"):
        write_control_vector({3: torch.ones(160)}, config, out, layers=[5])
    with pytest.raises(InputError, match="there is no vector to write"):
        write_control_vector({}, config, out)
    flat = Directions(torch.zeros(1, 9, 160), (-1,), "mean-difference")
    with pytest.raises(InputError, match=r"do not differ at resid\[3\]"):
        write_control_vector(flat, config, out, layers=[3])
    with pytest.raises(InputError, match="there is no vector to write"):
        write_control_vector(flat, config, out)
    out.write_text("mine")
    with pytest.raises(InputError, match="exists; pass --force to replace it"):
        write_control_vector(chat.directions, config, out)
    write_control_vector(chat.directions, config, out, force=True)
    assert fields(out)["general.architecture"] == "controlvector"


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
    directions = difference_in_means(*captured)
    checkpoint, architecture = Checkpoint.open(folder), find_architecture(model)
    plan = make_plan(Recipe.uniform(), directions[14], architecture, model, checkpoint)
    written = write_gguf_adapter(plan, checkpoint, architecture, tmp_path / "adapter.gguf", base=base)
    chat = Chat(model, tokenizer, directions, listed("harmful_val")[:12], [], base)
    before, after = (chat.refusals(chat.served(adapter=(written.path, scale)))[0] for scale in (0.0, 1.0))
    with capsys.disabled():
        sys.stdout.write(f"adapter {written.nbytes / 1e6:.2f} MB; refusals {before} of 12, then {after}\n")
    assert before >= 4
    assert after <= 1
