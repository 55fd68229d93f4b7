"""Edits of a live model: all of it or nothing, and each weight once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import clone_inputs, random_clone
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import ArchitectureError, InputError
from abliterate.interventions import (
    ablated,
)
from abliterate.interventions.recipe import Recipe
from abliterate.proofs.census import class_and_config, published_config
from fixtures.models import random_model
from fixtures.wrapped import SILENT, hook_count, logits, lora, residue, unchanged, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks transformers
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]


def test_strength_per_layer_reaches_its_layer_only(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    orthogonalize(llama, direction, Recipe({"mlp": (0.0, 0.0, 1.0, 0.0)}))
    changed = {name for name, tensor in llama.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"model.layers.2.mlp.down_proj.weight"}


OWN = Recipe(({"embed": 1.0, "attn": 0.3, "mlp": 1.0}, {"embed": 0.4, "attn": 0.9}))


@pytest.mark.parametrize("model_type", ["bloom", "gemma3_text", "gpt2"])
def test_directions_with_their_own_strengths_are_the_same_by_hooks_and_in_weights(model_type: str) -> None:
    # Bloom norms what its embedding writes and reads that embedding as its head: there rows mix the other way round.
    clone = random_clone(*class_and_config(model_type, published_config(model_type))).eval()
    basis = torch.randn(2, find_architecture(clone).d_model, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = clone(**clone_inputs(clone), use_cache=False).logits
        with ablated(clone, basis, OWN):
            hooked = clone(**clone_inputs(clone), use_cache=False).logits
        edited = orthogonalize(clone, basis, OWN)(**clone_inputs(clone), use_cache=False).logits
    assert not torch.allclose(before, hooked, atol=1e-2)
    assert torch.allclose(edited, hooked, atol=1e-4 * float(hooked.abs().max()))


def test_strengths_of_another_number_of_directions_are_refused_before_anything_is_changed(
    llama: PreTrainedModel, direction: torch.Tensor
) -> None:
    before = weights(llama)
    with pytest.raises(InputError, match="strengths of 2 directions for 1; give those of each, or one set"):
        orthogonalize(llama, direction, OWN)
    assert unchanged(llama, before)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_with_an_adapter_hook_form_equals_weight_form(
    model: PreTrainedModel, direction: torch.Tensor, strength: float
) -> None:
    adapted, recipe = lora(model), Recipe.uniform(strength)
    before = logits(adapted)
    with ablated(adapted, 3 * direction, recipe):
        hooked = logits(adapted)
        assert strength < 1 or residue(adapted, direction) < SILENT
    assert residue(adapted, direction) > 1e-3
    assert not torch.allclose(before, hooked, atol=1e-2)
    assert orthogonalize(adapted, direction, recipe) is adapted.get_base_model()
    assert torch.allclose(logits(adapted), hooked, atol=1e-3 * float(hooked.abs().max()))
    assert strength < 1 or residue(adapted, direction) < SILENT
    merged = logits(adapted.merge_and_unload())
    assert torch.allclose(merged, hooked, atol=1e-3 * float(hooked.abs().max()))


@pytest.mark.parametrize(
    "how",
    [
        {"targets": ["embed_tokens", "o_proj", "down_proj"]},
        {"targets": ["q_proj"], "modules_to_save": ["o_proj", "embed_tokens"]},
        {"targets": ["down_proj"], "modules_to_save": ["post_attention_layernorm", "post_feedforward_layernorm"]},
    ],
)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_embeddings_and_saved_modules_are_edited_with_their_model(
    family: str, how: dict[str, Any], direction: torch.Tensor
) -> None:
    model = random_model(family, tie_word_embeddings=False)
    adapted = lora(model, **how)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    with ablated(adapted, direction):
        assert residue(adapted, direction) < SILENT
        hooked = logits(adapted)
    orthogonalize(adapted, direction)
    assert residue(adapted, direction) < SILENT
    assert torch.allclose(logits(adapted), hooked, atol=1e-3 * float(hooked.abs().max()))


class Bytes(nn.Module):
    """As bitsandbytes keeps a weight: bytes under its name."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.own = [linear]
        self.weight = nn.Parameter(torch.zeros(linear.weight.numel(), 1, dtype=torch.uint8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.own[0](x)


def meta(linear: nn.Linear) -> nn.Module:
    return linear.to("meta")


def expanded(linear: nn.Linear) -> nn.Module:
    linear.weight = nn.Parameter(torch.ones(1, 1).expand(linear.weight.shape))
    return linear


def poisoned(value: float) -> Callable[[nn.Linear], nn.Module]:
    def change(linear: nn.Linear) -> nn.Module:
        with torch.no_grad():
            linear.weight[0, 0] = value
        return linear

    return change


def parametrised(linear: nn.Linear) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(linear)


class Tagged(torch.Tensor):
    """A tensor of a class of its own, as torchao's and DTensor are."""


def tagged(linear: nn.Linear) -> nn.Module:
    linear.weight = nn.Parameter(linear.weight.detach().as_subclass(Tagged))
    return linear


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Bytes, "is torch.uint8: a quantised or replaced weight"),
        (meta, "is not in memory"),
        (expanded, "one number in several places"),
        (poisoned(torch.nan), "holds NaN or infinity; check the checkpoint"),
        (poisoned(torch.inf), "holds NaN or infinity; check the checkpoint"),
        (parametrised, "a quantised or replaced weight"),
        (tagged, "is Tagged: a quantised or replaced weight"),
    ],
)
def test_a_weight_that_cannot_be_edited_leaves_all_others_as_they_were(
    llama: PreTrainedModel, direction: torch.Tensor, change: Callable[..., nn.Module], message: str
) -> None:
    last = llama.model.layers[3].mlp
    last.down_proj = change(last.down_proj)
    before = {name: one for name, one in weights(llama).items() if not one.is_meta}
    with pytest.raises(InputError, match=rf"model.layers.3.mlp.down_proj.weight .*{message}"):
        orthogonalize(llama, direction)
    assert all(
        torch.equal(one.nan_to_num(7.0), before[name].nan_to_num(7.0))
        for name, one in llama.named_parameters()
        if name in before
    )


def test_an_edit_that_overflows_leaves_all_as_it_was(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    llama.to(torch.float16)
    with torch.no_grad():
        llama.model.layers[3].mlp.down_proj.weight.copy_((30000 * direction)[:, None].expand(-1, 80))
    before = weights(llama)
    with pytest.raises(InputError, match=r"layers.3.mlp.down_proj.weight would hold NaN or infinity after the edit"):
        orthogonalize(llama, direction, Recipe.uniform(-20.0))
    assert unchanged(llama, before)


def test_weights_in_another_place_are_refused(tmp_path: Any, direction: torch.Tensor) -> None:
    places = dict.fromkeys(["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"], "cpu")
    places |= {f"model.layers.{layer}": "disk" if layer else "cpu" for layer in range(4)}
    model = dispatch_model(random_model("llama"), places, main_device="cpu", offload_dir=tmp_path, force_hooks=True)
    before = logits(model)
    with pytest.raises(InputError, match=r"model.layers.1.mlp.down_proj.weight is not in memory"):
        orthogonalize(model, direction)
    assert torch.equal(logits(model), before)


def test_one_weight_in_two_modules_is_edited_once(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    one, other = (llama.model.layers[layer].mlp.down_proj for layer in (1, 2))
    other.weight = one.weight
    with ablated(llama, direction, Recipe.uniform(0.5)):
        hooked = logits(llama)
    before = weights(llama)
    with pytest.raises(InputError, match="are one weight, and are to be edited differently"):
        orthogonalize(llama, direction, Recipe({"mlp": (0.5, 0.5, 1.0, 0.5)}))
    assert unchanged(llama, before)
    orthogonalize(llama, direction, Recipe.uniform(0.5))
    assert torch.allclose(logits(llama), hooked, atol=1e-3 * float(hooked.abs().max()))


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x


def replaced(layer: Any) -> None:
    layer.mlp = Nothing()


def test_a_writer_that_is_not_there_is_named(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    replaced(llama.model.layers[1])
    for act in (ablated, orthogonalize):
        with (
            pytest.raises(ArchitectureError, match=r"model.layers.1.mlp.down_proj: LlamaForCausalLM writes"),
            act(llama, direction),  # type: ignore[attr-defined]
        ):
            pass
    assert hook_count(llama) == 0


def test_layers_that_were_taken_out_are_not_missed(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    llama.model.layers = llama.model.layers[:3]
    assert find_architecture(llama).depth == 3
    orthogonalize(llama, direction)
    llama.config.num_hidden_layers = 3
    assert residue(llama, direction) < SILENT


def test_a_quantised_live_model_is_not_edited_in_place(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    parameter = llama.get_parameter("model.layers.0.mlp.down_proj.weight")
    parameter.data = parameter.data.to(torch.float8_e4m3fn)
    with pytest.raises(
        InputError,
        match=r"down_proj\.weight is torch\.float8_e4m3fn: .* cannot be edited in place; load the model with dequantize=True",
    ):
        orthogonalize(llama, direction)
