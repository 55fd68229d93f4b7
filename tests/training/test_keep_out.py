"""Fine-tuning around the edit: the direction stays out whatever is trained; hardening; healing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from abliterate.architectures.architecture import find_architecture
from abliterate.commands.heal import heal
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError, ProofError
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.projection import orthonormal_basis
from abliterate.proofs.stream import SILENCE
from abliterate.training.harden import harden
from abliterate.training.heal import optimizer_steps
from abliterate.training.heal_options import HealOptions
from abliterate.training.keep_out import KeepDirectionOut, base_model, dtype_of_numbers
from fixtures.models import random_model
from fixtures.training import EXACT, SEQUENCES, printed, residue, rows, sets, tiny, written

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.*is_gradient_checkpointing.*:FutureWarning"
    ),  # peft 0.21 asks transformers 5.23
    # PEFT says of every adapter on a tied embedding that the head does not follow it, which is what is tested.
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*'pin_memory'.*:UserWarning"),
]


class Residue(TrainerCallback):
    """After every step, the largest component along the direction at any layer."""

    def __init__(self, direction: torch.Tensor) -> None:
        self.basis = direction.reshape(-1, direction.shape[-1])
        self.found: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.found.append(residue(model, self.basis))


def train(model: Any, folder: Path, callbacks: Sequence[TrainerCallback], **changes: Any) -> None:
    rows = [{"input_ids": one, "labels": one} for one in SEQUENCES * 4]
    settings = {"learning_rate": 0.05, "max_steps": 3, "per_device_train_batch_size": 2, "optim": "sgd", **changes}
    arguments = TrainingArguments(
        str(folder),
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        use_cpu=True,
        **settings,
    )
    Trainer(model, arguments, train_dataset=rows, callbacks=list(callbacks)).train()


def lora(model: PreTrainedModel, targets: Any = "all-linear", **changes: Any) -> PeftModel:
    torch.manual_seed(1)
    return get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type=TaskType.CAUSAL_LM, **changes))


# --- the direction stays out -----------------------------------------------------------------------------------------


def test_it_stays_out_of_every_layer_after_every_step(
    model: PreTrainedModel, direction: torch.Tensor, tmp_path: Path
) -> None:
    orthogonalize(model, direction)
    seen = Residue(direction)
    train(model, tmp_path, [KeepDirectionOut(direction), seen], optim="adamw_torch", learning_rate=0.01)
    assert len(seen.found) == 3
    assert max(seen.found) < EXACT


def test_without_it_training_brings_the_direction_back(direction: torch.Tensor, tmp_path: Path) -> None:
    model = orthogonalize(random_model("llama"), direction)
    train(model, tmp_path, [])
    assert residue(model, direction) > 1e-3


def test_a_basis_stays_out(llama: PreTrainedModel, tmp_path: Path) -> None:
    basis = orthonormal_basis(torch.randn(3, 48, generator=torch.Generator().manual_seed(2)))
    orthogonalize(llama, basis)
    train(llama, tmp_path, [KeepDirectionOut(basis)])
    assert residue(llama, basis) < EXACT


def test_bfloat16_to_rounding(llama: PreTrainedModel, direction: torch.Tensor, tmp_path: Path) -> None:
    orthogonalize(llama.to(torch.bfloat16), direction)
    seen = Residue(direction)
    train(llama, tmp_path, [KeepDirectionOut(direction), seen])
    assert max(seen.found) < SILENCE[torch.bfloat16]


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def test_one_step_is_a_plain_step_and_then_the_projection(direction: torch.Tensor, tmp_path: Path) -> None:
    # The epsilon: without it Adam turns the rounding of a gradient near zero into a whole step of either sign.
    kept, plain = (orthogonalize(random_model("llama"), direction) for _ in range(2))
    train(kept, tmp_path, [KeepDirectionOut(direction)], max_steps=1, optim="adamw_torch", adam_epsilon=1e-3)
    train(plain, tmp_path, [], max_steps=1, optim="adamw_torch", adam_epsilon=1e-3)
    orthogonalize(plain, direction)
    for name, one in weights(plain).items():
        torch.testing.assert_close(weights(kept)[name], one, atol=1e-5, rtol=1e-4)


def test_under_sgd_it_is_training_under_the_hooks(direction: torch.Tensor, tmp_path: Path) -> None:
    how = {"max_steps": 5, "optim_args": "momentum=0.9", "weight_decay": 0.01, "max_grad_norm": 0.0}
    kept, hooked = (orthogonalize(random_model("llama"), direction) for _ in range(2))
    train(kept, tmp_path, [KeepDirectionOut(direction)], **how)
    with ablated(hooked, direction):
        train(hooked, tmp_path, [], **how)
    orthogonalize(hooked, direction)
    for name, one in weights(hooked).items():
        torch.testing.assert_close(weights(kept)[name], one, atol=1e-5, rtol=1e-4)


def test_accumulated_batches_are_one_step(direction: torch.Tensor, tmp_path: Path) -> None:
    one, other = (orthogonalize(random_model("llama"), direction) for _ in range(2))
    seen = Residue(direction)
    calls = KeepDirectionOut(direction)
    train(one, tmp_path, [calls, seen], per_device_train_batch_size=1, gradient_accumulation_steps=4)
    train(other, tmp_path, [KeepDirectionOut(direction)], per_device_train_batch_size=4)
    assert len(seen.found) == 3
    assert max(seen.found) < EXACT
    for name, weight in weights(other).items():
        torch.testing.assert_close(weights(one)[name], weight, atol=1e-5, rtol=1e-4)


# --- adapters --------------------------------------------------------------------------------------------------------


def linear_targets(model: PreTrainedModel) -> Any:
    return ["c_attn", "c_proj", "c_fc"] if model.config.model_type == "gpt2" else "all-linear"


def test_a_lora_stays_silent_and_so_does_what_it_is_merged_to(
    model: PreTrainedModel, direction: torch.Tensor, tmp_path: Path
) -> None:
    adapted = lora(orthogonalize(model, direction), linear_targets(model))
    before = residue(adapted, direction)
    seen = Residue(direction)
    train(adapted, tmp_path, [KeepDirectionOut(direction), seen], optim="adamw_torch", learning_rate=0.05)
    assert max(*seen.found, before) < EXACT
    assert residue(adapted.merge_and_unload(), direction) < EXACT


def test_without_it_a_lora_brings_the_direction_back(direction: torch.Tensor, tmp_path: Path) -> None:
    adapted = lora(orthogonalize(random_model("llama"), direction))
    train(adapted, tmp_path, [], optim="adamw_torch", learning_rate=0.05)
    assert residue(adapted, direction) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        {"targets": ["embed_tokens", "o_proj"]},
        {"targets": ["embed_tokens", "lm_head", "down_proj"], "ensure_weight_tying": True},
        {"targets": ["lm_head", "down_proj"]},
        {"targets": ["q_proj"], "modules_to_save": ["embed_tokens", "down_proj"]},
        {"targets": ["o_proj"], "lora_bias": True},
        {"targets": ["o_proj", "down_proj"], "bias": "all"},
        {"targets": ["o_proj"], "use_rslora": True, "init_lora_weights": "pissa"},
    ],
    ids=["embedding", "both ends", "head", "modules_to_save", "lora_bias", "bias", "pissa"],
)
def test_tied_embeddings_biases_and_saved_modules(how: dict[str, Any], direction: torch.Tensor, tmp_path: Path) -> None:
    model = random_model("llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True)
    adapted = lora(orthogonalize(model, direction), **how)
    seen = Residue(direction)
    train(adapted, tmp_path, [KeepDirectionOut(direction), seen], optim="adamw_torch", learning_rate=0.05)
    assert max(seen.found) < EXACT
    assert residue(adapted.merge_and_unload(), direction) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_fused_experts(family: str, direction: torch.Tensor, tmp_path: Path) -> None:
    model = random_model("llama")  # its sizes, in a mixture of experts
    sizes = {name: getattr(model.config, name) for name in ("hidden_size", "vocab_size", "head_dim", "pad_token_id")}
    config = AutoConfig.for_model(
        family, **sizes, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=4, num_experts_per_tok=2, bos_token_id=1, eos_token_id=2, layer_types=["full_attention"] * 2,
    )  # fmt: skip
    torch.manual_seed(0)
    experts = orthogonalize(AutoModelForCausalLM.from_config(config).eval(), direction)
    adapted = lora(experts, ["o_proj"], target_parameters=["mlp.experts.down_proj", "mlp.experts.gate_up_proj"])
    seen = Residue(direction)
    train(adapted, tmp_path, [KeepDirectionOut(direction), seen], optim="adamw_torch", learning_rate=0.05)
    assert max(seen.found) < EXACT
    assert residue(adapted.merge_and_unload(), direction) < EXACT


@pytest.mark.slow
def test_an_adapter_keeps_the_component_of_a_half_edit(direction: torch.Tensor, tmp_path: Path) -> None:
    recipe = Recipe({"mlp": 0.5})
    adapted = lora(orthogonalize(random_model("llama"), direction, recipe))
    module = base_model(adapted).model.layers[1].mlp.down_proj
    before = direction @ module.base_layer.weight
    train(adapted, tmp_path, [KeepDirectionOut(direction, recipe)], optim="adamw_torch")
    merged = adapted.merge_and_unload().model.layers[1]
    torch.testing.assert_close(direction @ merged.mlp.down_proj.weight, before)


# --- what cannot be kept ---------------------------------------------------------------------------------------------


def test_a_model_that_still_has_the_direction_is_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    with pytest.raises(
        InputError, match=r"embed_tokens\.weight is not trained and holds the direction; call orthogonalize"
    ):
        KeepDirectionOut(direction).begin(lora(llama, ["down_proj"]))


def test_a_direction_of_another_model_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"the direction has d_model 47, the model 48; it belongs to another model"):
        KeepDirectionOut(torch.ones(47)).begin(llama)


def test_weights_edited_by_half_are_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"is trained, and edited at strength 0\.5.*train a LoRA"):
        KeepDirectionOut(direction, Recipe.uniform(0.5)).begin(llama)


def test_adapters_that_are_no_plain_product_are_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    adapted = lora(orthogonalize(llama, direction), use_dora=True)
    with pytest.raises(InputError, match=r"is a DoraLinearVariant, which cannot be kept silent; use plain LoRA"):
        KeepDirectionOut(direction).begin(adapted)


def test_other_kinds_of_adapter_are_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    from peft import IA3Config

    orthogonalize(llama, direction)
    adapted = get_peft_model(
        llama, IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    )
    with pytest.raises(InputError, match=r"an adapter of type IA3 cannot be kept silent; use LoRA"):
        KeepDirectionOut(direction).begin(adapted)


def test_tokens_trained_one_by_one_are_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    adapted = lora(orthogonalize(llama, direction), ["q_proj"], trainable_token_indices=[3, 4])
    with pytest.raises(InputError, match=r"embed_tokens is trained token by token, which cannot be kept silent"):
        KeepDirectionOut(direction).begin(adapted)


def test_a_gain_that_moves_over_a_frozen_writer_is_refused(direction: torch.Tensor) -> None:
    model = orthogonalize(random_model("gemma3_text"), direction)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name)
    with pytest.raises(InputError, match=r"norm\.weight is trained and stands behind .*; train both or neither"):
        KeepDirectionOut(direction).begin(model)


def test_shards_are_refused(llama: PreTrainedModel, direction: torch.Tensor, tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    arguments.deepspeed = "zero3.json"
    with pytest.raises(InputError, match=r"DeepSpeed or FSDP cuts into shards cannot be projected"):
        KeepDirectionOut(direction).on_train_begin(arguments, None, None, model=llama)


def test_names_are_those_of_the_model_without_adapters(llama: PreTrainedModel) -> None:
    plain = find_architecture(llama)
    assert find_architecture(base_model(lora(llama))) == plain


@pytest.mark.slow
def test_one_step_hardens_and_none_that_changes_nothing_is_written() -> None:
    model, tokenizer = tiny()
    one = harden(model, tokenizer, *sets(60), steps=1, batch_size=2, rank=2)
    assert any(bool(weight.any()) for name, weight in one.model.state_dict().items() if "lora_B" in name)
    model, tokenizer = tiny()
    with pytest.raises(InputError, match="hardening, in 1 steps at a learning rate of 1e-50, changed nothing"):
        harden(model, tokenizer, *sets(60), steps=1, batch_size=2, rank=2, learning_rate=1e-50)
    model, tokenizer = tiny()
    with pytest.raises(InputError, match="NaN or infinite"):
        harden(model, tokenizer, *sets(60), steps=4, batch_size=2, rank=2, learning_rate=1e30)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [False, True])
def test_one_step_heals(original: Path, tmp_path: Path, adapter: bool) -> None:
    """The first step of a warm-up has a rate of 0."""
    path = written(tmp_path / "rows.jsonl", rows("sft"))
    settings = HealOptions(learning_rate=2e-3, steps=1, batch_size=2, accumulation=1, rank=4, adapter=adapter)
    healed = heal(str(original), path, tmp_path / "healed", settings)
    assert healed.training.steps == 1
    assert healed.training.loss_after < healed.training.loss_before
    if not adapter:
        before, after = (load_file(folder / "model.safetensors") for folder in (original, healed.out))
        assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("rate", "adapter", "message"), [
    (1e-12, False, "healing changed no weight: what was learned is below one rounding of BF16; take more steps"),
    (1e-50, True, "healing, in 2 steps at a learning rate of 1e-50, changed nothing; take more steps"),
    (1e30, False, "NaN|nan|infinit"),
])  # fmt: skip
def test_healing_that_changes_nothing_or_ends_in_nan_writes_nothing(
    original: Path, tmp_path: Path, rate: float, adapter: bool, message: str
) -> None:
    path = written(tmp_path / "rows.jsonl", rows("sft"))
    settings = HealOptions(learning_rate=rate, steps=2, batch_size=2, accumulation=1, rank=4, adapter=adapter)
    with pytest.raises((InputError, ProofError), match=message):
        heal(str(original), path, tmp_path / "healed", settings)
    assert not (tmp_path / "healed").exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_an_edit_in_bfloat16_is_healed_in_either_dtype_and_the_files_keep_theirs(
    original: Path, tmp_path: Path, dtype: str
) -> None:
    path = written(tmp_path / "rows.jsonl", rows("sft"))
    settings = HealOptions(learning_rate=1e-3, steps=2, batch_size=2, accumulation=1, rank=4)
    before, after = load_file(original / "model.safetensors"), tmp_path / "healed"
    assert {one.dtype for one in before.values()} == {torch.bfloat16}
    assert heal(str(original), path, after, settings, dtype=dtype).proof.drift < 0.1
    assert {one.dtype for one in load_file(after / "model.safetensors").values()} == {torch.bfloat16}


def test_numbers_that_two_bytes_hold_are_those_of_a_checkpoint_of_two_bytes() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        loaded = torch.randn(8, 4).to(dtype).float()
        assert dtype_of_numbers(loaded) == dtype_of_numbers(loaded.to(dtype)) == dtype
        loaded[3, 1] += 1e-4
        assert dtype_of_numbers(loaded) == torch.float32


@pytest.mark.parametrize("count", [2, 5, 24, 100])
@pytest.mark.parametrize("changes", [{}, {"epochs": 2.5}, {"accumulation": 1}, {"batch_size": 1, "accumulation": 3}])
def test_steps_are_counted_as_the_trainer_does(count: int, changes: dict[str, Any]) -> None:
    chosen = HealOptions(**changes)
    arguments = TrainingArguments(
        "unused",
        use_cpu=True,
        num_train_epochs=chosen.epochs,
        per_device_train_batch_size=chosen.batch_size,
        gradient_accumulation_steps=chosen.accumulation,
    )
    trainer = Trainer(random_model("llama"), arguments, train_dataset=[{"input_ids": [1]}] * count)
    found = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    assert optimizer_steps(count, chosen) == found[-1]


@pytest.mark.slow
def test_the_example_that_keeps_a_direction_out() -> None:
    plain, kept = (
        float(line.split()[-1]) for line in printed("keep_direction_out.py").splitlines() if "largest" in line
    )
    assert plain > 1e-3
    assert kept < EXACT
