"""What is put around a model is seen through, what takes no effect is refused, and a direction has one meaning everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel

from abliterate.activations.capture import capture
from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.wrappers import unwrapped
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError
from abliterate.interventions import (
    Condition,
    ablated,
    ablated_rows,
    added,
    added_rows,
    affine,
    rows_where,
)
from fixtures.models import random_model
from fixtures.quantized_models import TINY
from fixtures.wrapped import SILENT, TOKENS, logits, lora, residue, unchanged, weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks transformers
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]

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


WHEN = torch.tensor([0.1])
