"""What is put around a model is seen through, what takes no effect is refused, and a direction has one meaning everywhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from abliterate.activations.capture import Activations, capture
from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.wrappers import unwrapped
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import ArchitectureError, InputError
from abliterate.interventions import (
    Condition,
    ablated,
    ablated_rows,
    added,
    added_rows,
    affine,
    mean_component,
    rows_where,
)
from abliterate.interventions.recipe import Recipe
from abliterate.proofs.stream import relative_component, streams
from abliterate.training.keep_out import KeepDirectionOut
from fixtures.models import random_model
from fixtures.quantized_models import TINY

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks transformers
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]

SEQUENCES = [[3, 14, 15, 9, 26], [5, 35, 8, 9, 79, 32, 38], [4, 6]]
TOKENS = torch.arange(5, 23).reshape(3, 6)
SILENT = 1e-6


def lora(model: PreTrainedModel, targets: Any = "all-linear", **changes: Any) -> PeftModel:
    """A LoRA that does something: both its factors are random."""
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type=TaskType.CAUSAL_LM, **changes))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    return adapted.eval()


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def unchanged(model: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one.nan_to_num(7.0), before[name].nan_to_num(7.0)) for name, one in model.named_parameters())


def residue(model: nn.Module, direction: torch.Tensor) -> float:
    live = unwrapped(model)
    return max(relative_component(live, find_architecture(live), direction[None], SEQUENCES))


def hook_count(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# What is put around a model


class Shell(nn.Module):
    """As accelerate, DeepSpeed and value heads do: the model is a child."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.pretrained_model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.pretrained_model(*args, **kwargs)


WRAPPERS: dict[str, Callable[[PreTrainedModel], Any]] = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "data-parallel": nn.DataParallel,
    "shell": Shell,
    "lora": lora,
    "compiled lora": lambda model: torch.compile(lora(model), backend="eager"),
    "shell of a lora": lambda model: Shell(lora(model)),
}


@pytest.fixture(params=sorted(WRAPPERS))
def wrap(request: pytest.FixtureRequest) -> Callable[[PreTrainedModel], Any]:
    torch.compiler.reset()
    return WRAPPERS[request.param]


def test_the_architecture_is_that_of_the_model_inside(model: PreTrainedModel, wrap: Callable[..., Any]) -> None:
    plain = find_architecture(model)
    assert find_architecture(wrap(model)) == plain


def test_compiled_parts_have_the_names_of_the_model(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    torch.compiler.reset()
    plain, untouched = find_architecture(llama), logits(llama)
    with ablated(llama, direction):
        expected = logits(llama)
    llama.model.layers[1] = torch.compile(llama.model.layers[1], backend="eager")
    llama.model.layers[2].mlp.down_proj = torch.compile(llama.model.layers[2].mlp.down_proj, backend="eager")
    assert torch.allclose(logits(llama), untouched, atol=1e-5)
    assert find_architecture(llama) == plain
    with ablated(llama, direction):
        assert torch.allclose(logits(llama), expected, atol=1e-5)
    orthogonalize(llama, direction)
    assert torch.allclose(logits(llama), expected, atol=1e-4)


def test_every_entry_point_takes_it(llama: PreTrainedModel, direction: torch.Tensor, wrap: Callable[..., Any]) -> None:
    whole = wrap(llama)
    live = unwrapped(whole)
    before = logits(whole)
    condition = Condition(direction, 2, 0.0)
    for context in (
        ablated(whole, direction),
        ablated_rows(whole, direction[None, None]),
        added(whole, direction, 2, scale=4.0),
        added_rows(whole, direction[None], [2]),
        affine(whole, direction, 3.0, when=condition),
    ):
        with context as given:
            assert given is live
            assert not torch.allclose(logits(whole), before, atol=1e-3)
        assert torch.allclose(logits(whole), before, atol=1e-5)
    assert torch.equal(rows_where(whole, condition, TOKENS), rows_where(live, condition, TOKENS))
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    small = random_model("llama", vocab_size=len(tokenizer), max_position_embeddings=512)
    around = wrap(small)
    found = capture(around, tokenizer, ["Say hello.", "Name a colour."])
    assert torch.equal(found.resid, capture(unwrapped(around), tokenizer, ["Say hello.", "Name a colour."]).resid)


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


def test_hooks_take_any_adapter_and_weights_only_plain_products(
    llama: PreTrainedModel, direction: torch.Tensor
) -> None:
    for adapted in (
        lora(llama, use_dora=True),
        get_peft_model(
            random_model("llama"), IA3Config(target_modules=["down_proj"], feedforward_modules=["down_proj"])
        ),
    ):
        before = weights(adapted)
        with ablated(adapted, direction):
            assert residue(adapted, direction) < SILENT
        with pytest.raises(InputError, match=r"_proj: .* cannot be edited as it is; call merge_and_unload"):
            orthogonalize(adapted, direction)
        assert unchanged(adapted, before)


def test_vectors_before_the_prompt_are_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    adapted = get_peft_model(llama, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3))
    with pytest.raises(InputError, match="PROMPT_TUNING puts vectors of its own"), ablated(adapted, direction):
        pass


def test_what_is_no_model_is_refused(direction: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"expected a transformers model.*found Linear with 0"):
        find_architecture(nn.Linear(2, 2))
    with pytest.raises(InputError, match="found ModuleList with 2"):
        orthogonalize(nn.ModuleList([random_model("llama"), random_model("gpt2")]), direction)


# What takes no effect


def quantised(model: PreTrainedModel) -> PreTrainedModel:
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen2"])
def test_hooks_act_on_dynamically_quantised_linears_and_weights_are_refused(
    family: str, direction: torch.Tensor
) -> None:
    model = quantised(random_model(family, tie_word_embeddings=False))
    before = weights(model)
    assert residue(model, direction) > 1e-2
    with ablated(model, direction):
        assert residue(model, direction) < SILENT
    with pytest.raises(InputError, match=r"layers.0.mlp.down_proj.weight is Linear: a quantised or replaced weight"):
        orthogonalize(model, direction)
    assert unchanged(model, before)


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


def around(layer: Any) -> None:
    """The MLP computes with the weight, without calling the module: fused kernels do so."""
    mlp = layer.mlp
    mlp.forward = lambda x: nn.functional.linear(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x), mlp.down_proj.weight)


def own_call(layer: Any) -> None:
    class Own(nn.Linear):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return self.forward(x)

    layer.mlp.down_proj.__class__ = Own


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * x


def replaced(layer: Any) -> None:
    layer.mlp = Nothing()


@pytest.mark.parametrize("change", [around, own_call])
def test_a_writer_that_the_model_goes_around_is_named_in_the_first_pass(
    llama: PreTrainedModel, direction: torch.Tensor, change: Callable[[Any], None]
) -> None:
    change(llama.model.layers[2])
    with (
        pytest.raises(ArchitectureError, match=r"model.layers.2.mlp.down_proj: the model computes without calling it"),
        ablated(llama, direction),
    ):
        logits(llama)
    assert hook_count(llama) == 0


def test_layers_that_the_model_goes_around_are_named(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    embed = llama.model.embed_tokens
    for layer in llama.model.layers:
        layer.__class__ = type("Own", (type(layer),), {"__call__": type(layer).forward})
    for enter in (ablated(llama, direction), added(llama, direction, 2), affine(llama, direction, 1.0)):
        with pytest.raises(ArchitectureError, match=r"model.layers.[0-3].*computes without calling it"), enter:
            logits(llama)
    with pytest.raises(ArchitectureError, match=r"model.layers.3: the model computes without calling it"):
        streams(llama, find_architecture(llama), SEQUENCES)
    assert embed is llama.model.embed_tokens
    assert hook_count(llama) == 0


def test_an_embedding_that_the_model_goes_around_is_named(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    embed = llama.model.embed_tokens
    with ablated(llama, direction):  # vectors instead of tokens are the caller's own
        llama(inputs_embeds=embed.weight[TOKENS].detach())
    embed.__class__ = type("Own", (nn.Embedding,), {"__call__": nn.Embedding.forward})
    with pytest.raises(ArchitectureError, match=r"model.embed_tokens: the model computes"), ablated(llama, direction):
        logits(llama)


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


# A direction has one meaning

Use = Callable[[PreTrainedModel, torch.Tensor], Any]


def inside(context: AbstractContextManager[Any], model: PreTrainedModel) -> torch.Tensor:
    with context:
        return logits(model)


def kept_out(model: PreTrainedModel, direction: torch.Tensor) -> torch.Tensor:
    callback = KeepDirectionOut(direction)
    callback.begin(model)
    return logits(model)


RESID = torch.randn(6, 1, 5, 48, generator=torch.Generator().manual_seed(3))
WHEN = torch.tensor([0.1])
ENTRIES: dict[str, Use] = {
    "ablated": lambda model, r: inside(ablated(model, r), model),
    "ablated_rows": lambda model, r: inside(ablated_rows(model, r[None, None]), model),
    "affine": lambda model, r: inside(affine(model, r, 3.0), model),
    "affine, rows": lambda model, r: inside(affine(model, r.expand(3, -1), 3.0), model),
    "condition": lambda model, r: inside(added(model, torch.ones(48), 2, when=Condition(r, 2, 0.1)), model),
    "rows_where": lambda model, r: rows_where(model, Condition(r, 2, 0.1), TOKENS).float(),
    "mean_component": lambda model, r: mean_component(Activations(RESID, (-1,)), r),
    "orthogonalize": lambda model, r: logits(orthogonalize(model, r)),
    "KeepDirectionOut": kept_out,
}
LENGTHS: dict[str, Use] = {
    "added": lambda model, r: inside(added(model, r, 2), model),
    "added_rows": lambda model, r: inside(added_rows(model, r[None], [2]), model),
}
"""Where the length of the vector is what is added."""


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_any_positive_multiple_is_the_same_direction(name: str, direction: torch.Tensor) -> None:
    expected = ENTRIES[name](random_model("llama"), direction)
    for factor in (2.0, 0.37, 1e6, 1e-6):
        found = ENTRIES[name](random_model("llama"), factor * direction)
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    double = ENTRIES[name](random_model("llama"), 2 * direction.to(torch.bfloat16))
    assert torch.allclose(double, expected, atol=0.1 * float(expected.abs().max()))


def test_rows_of_any_length_and_angle_remove_their_span(llama: PreTrainedModel) -> None:
    rows = torch.randn(2, 48)
    askew = torch.stack([3 * rows[0], rows[0] + 0.1 * rows[1]])
    for one in rows:
        with ablated(llama, askew):
            assert residue(llama, one / one.norm()) < SILENT
    orthogonalize(llama, askew)
    KeepDirectionOut(rows).begin(llama)
    assert max(residue(llama, one / one.norm()) for one in rows) < SILENT
    with pytest.raises(InputError, match="linearly dependent"):
        orthogonalize(llama, torch.stack([rows[0], 2 * rows[0]]))


@pytest.mark.parametrize("name", sorted({*ENTRIES, *LENGTHS}))
@pytest.mark.parametrize(
    ("value", "message"), [(torch.nan, "NaN"), (torch.inf, "infinity"), (0.0, "zero length"), (None, "another model")]
)
def test_no_direction_is_refused_before_anything_is_changed(
    name: str, value: float | None, message: str, llama: PreTrainedModel, direction: torch.Tensor
) -> None:
    if name == "KeepDirectionOut":
        orthogonalize(llama, direction)
    before = weights(llama)
    if name == "added_rows" and value == 0.0:  # a vector of zeros leaves its rows alone
        assert torch.equal(LENGTHS[name](llama, 0 * direction), logits(llama))
        return
    vector = torch.ones(7) if value is None else 0 * direction if value == 0.0 else direction.clone()
    if value:
        vector[3] = value
    with pytest.raises(InputError, match=message):
        {**ENTRIES, **LENGTHS}[name](llama, vector)
    assert unchanged(llama, before)
    assert hook_count(llama) == 0


@pytest.mark.parametrize("shape", [(2, 3, 48), (0, 48)])
def test_shapes_that_are_no_directions_are_refused(llama: PreTrainedModel, shape: tuple[int, ...]) -> None:
    before = weights(llama)
    for act in (ablated, orthogonalize, lambda model, vector: KeepDirectionOut(vector)):
        with pytest.raises(InputError, match="a direction has shape"), act(llama, torch.ones(shape)):  # type: ignore[attr-defined]
            pass
    assert unchanged(llama, before)


@pytest.mark.parametrize(
    ("enter", "message"),
    [
        (lambda model, r: added(model, r, 1, scale=torch.nan), "scale holds NaN or infinity"),
        (lambda model, r: affine(model, r, torch.nan), "target holds NaN or infinity"),
        (lambda model, r: ablated_rows(model, r[None, None], strengths=torch.tensor([torch.inf])), "strengths holds"),
        (lambda model, r: added(model, r, 1, when=Condition(r, 1, torch.nan)), "threshold holds NaN;"),
    ],
)
def test_numbers_that_are_not_finite_are_refused(
    llama: PreTrainedModel, direction: torch.Tensor, enter: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message), enter(llama, direction):
        pass
    assert hook_count(llama) == 0
