"""Fine-tuning around the edit: the direction stays out whatever is trained; hardening; healing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from abliterate.architectures.architecture import find_architecture
from abliterate.commands.apply import apply
from abliterate.commands.heal import Healed, heal
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError, NoRefusalsError, ProofError
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.pipeline.options import Options
from abliterate.progress import Progress
from abliterate.projection import normalize, orthonormal_basis
from abliterate.prompts.prompt_set import PromptSet, load_prompts
from abliterate.proofs.stream import SILENCE, relative_component
from abliterate.training.examples import read_examples
from abliterate.training.harden import HardenResult, harden
from abliterate.training.heal import heal_model, optimizer_steps
from abliterate.training.heal_options import HealOptions
from abliterate.training.healed import healed_components, prove_healed
from abliterate.training.keep_out import KeepDirectionOut, base_model
from abliterate.training.lora import new_lora
from fixtures.checkpoints import snapshot
from fixtures.folders import EXAMPLES
from fixtures.models import random_model

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

SEQUENCES = [[5, 9, 17, 31, 44, 3], [8, 23, 61, 7, 90, 12]]
EXACT = 1e-6


class Residue(TrainerCallback):
    """After every step, the largest component along the direction at any layer."""

    def __init__(self, direction: torch.Tensor) -> None:
        self.basis = direction.reshape(-1, direction.shape[-1])
        self.found: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.found.append(residue(model, self.basis))


def residue(model: Any, basis: torch.Tensor) -> float:
    base = base_model(model)
    mode = base.training
    base.eval()
    with torch.no_grad():
        found = max(relative_component(base, find_architecture(base), basis.reshape(-1, basis.shape[-1]), SEQUENCES))
    base.train(mode)
    return found


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


# --- hardening: `examples/harden.py` holds the figures -----------------------------------------------------------------

TINY = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))


def tiny(dtype: str = "float32") -> tuple[PreTrainedModel, Any]:
    return AutoModelForCausalLM.from_pretrained(TINY, dtype=dtype).eval(), AutoTokenizer.from_pretrained(TINY)


def sets(count: int = 160) -> tuple[PromptSet, PromptSet]:
    harmful, harmless = (load_prompts(str(TINY / f"{side}.txt")).first(count) for side in ("harmful", "harmless"))
    return harmful, harmless


def hardened(seed: int) -> tuple[HardenResult, dict[str, torch.Tensor]]:
    model, tokenizer = tiny()
    result = harden(model, tokenizer, *sets(60), steps=3, batch_size=2, refresh=2, rank=2, seed=seed)
    return result, {name: one.clone() for name, one in result.model.state_dict().items() if "lora_" in name}


def test_hardening_repeats_itself_and_trains_a_lora_alone() -> None:
    (one, first), (other, second) = (hardened(seed=0) for _ in range(2))
    assert one.losses == other.losses
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(bool(weight.any()) for name, weight in first.items() if "lora_B" in name)
    plain, _ = tiny()
    with one.model.disable_adapter(), torch.no_grad():
        tokens = torch.tensor([[1, 40, 50, 60]])
        assert torch.equal(one.model(tokens).logits, plain(tokens).logits)
    assert len(one.losses) == 3
    record = json.loads(json.dumps(one.to_json()))
    assert record["settings"]["steps"] == 3
    assert record["before"]["edited"]["total"] == record["after"]["edited"]["total"] > 0
    assert record["before"]["same"]["rate"] == 1


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"steps 0: must be at least 1"),
        ({"batch_size": 0}, r"batch_size 0: must be at least 1"),
        ({"refresh": -1}, r"refresh -1: must be at least 1"),
        ({"rank": 0}, r"rank 0: must be at least 1"),
        ({"ablate_probability": 1.5}, r"ablate_probability 1\.5: must be from 0 to 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    model, tokenizer = tiny()
    with pytest.raises(InputError, match=message):
        harden(model, tokenizer, *sets(), **settings)


def test_a_model_that_does_not_refuse_has_nothing_to_defend() -> None:
    model, tokenizer = tiny()
    harmless = sets(120)[1]
    other = PromptSet("everyday", tuple(f"{one} Please." for one in harmless.prompts))
    with pytest.raises(
        NoRefusalsError, match=r"refuses \d of \d+ harmful training prompts; hardening needs at least 8"
    ):
        harden(model, tokenizer, other, harmless)


def test_training_needs_the_extra(llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="training needs peft, which is not installed: pip install "):
        new_lora(llama, 4, 0)


# --- healing ---------------------------------------------------------------------------------------------------------

ANSWER = "Sure. Here is a short plan."


def conversation(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


def rows(method: str, count: int = 24) -> list[dict[str, Any]]:
    prompts = sets(count)[1].prompts
    if method == "sft":
        return [{"messages": conversation(prompt, ANSWER), "source": "made here"} for prompt in prompts]
    return [
        {"prompt": user[:1], "chosen": user[1:], "rejected": conversation("", "Perhaps not.")[1:]}
        for user in (conversation(prompt, ANSWER) for prompt in prompts)
    ]


def written(path: Path, examples: Sequence[Any]) -> str:
    path.write_text("\n".join(map(json.dumps, examples)), encoding="utf-8")
    return str(path)


def edited(folder: Path, strength: float = 1.0) -> Path:
    row = normalize(torch.randn(160, generator=torch.Generator().manual_seed(1)))
    save_file({"resid.4": row}, folder / "directions.safetensors")
    options = Options(model=str(TINY), out=folder / "edited", strength=strength)
    apply(options, folder / "directions.safetensors", None)
    return folder / "edited"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited(tmp_path_factory.mktemp("heal"))


def healed_by(method: str, original: Path, folder: Path, **changes: Any) -> Healed:
    options = HealOptions(method, learning_rate=2e-3, steps=4, accumulation=1, rank=4, **changes)
    return heal(str(original), written(folder / "rows.jsonl", rows(method)), folder / "healed", options)


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


def silent(folder: Path, original: Path) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return residue(model.eval(), load_file(original / "directions.safetensors")["resid.4"])


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_a_healed_checkpoint_learns_and_stays_silent(
    method: str, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = snapshot(original)
    healed = healed_by(method, original, tmp_path)
    assert healed.training.loss_after < healed.training.loss_before
    assert (healed.training.steps, healed.training.examples, healed.training.held_out) == (4, 21, 3)
    assert healed.proof.drift <= healed.proof.limit
    assert healed.proof.silence is not None
    assert max(healed.proof.per_layer) <= healed.proof.silence
    assert silent(healed.out, original) < SILENCE[torch.bfloat16]
    # Nothing but what was asked for: the source as it was, no file elsewhere, no word on stdout.
    assert snapshot(original) == before
    assert not list((tmp_path / "here").iterdir())
    assert {path.name for path in tmp_path.iterdir()} <= {"here", "rows.jsonl", "healed", ".healed.abliterate-lock"}
    assert capsys.readouterr().out == ""
    names = {path.name for path in healed.out.iterdir()}
    assert {"model.safetensors", "recipe.json", "directions.safetensors", "healed.json", "tokenizer.json"} <= names
    assert "README.md" in names
    assert "abliterate.json" not in names  # figures and proof of a model that it no longer is
    assert (healed.out / "config.json").read_bytes() == (original / "config.json").read_bytes()
    record = json.loads((healed.out / "healed.json").read_text())
    assert record["options"]["method"] == method
    assert str(tmp_path) not in json.dumps(record)


def test_an_adapter_is_healed_by_itself_and_again(original: Path, tmp_path: Path) -> None:
    healed = healed_by("sft", original, tmp_path, adapter=True)
    names = {path.name for path in healed.out.iterdir()}
    assert names == {
        "adapter_config.json", "adapter_model.safetensors", "recipe.json", "directions.safetensors", "healed.json", "README.md",
    }  # fmt: skip
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(original, dtype="float32"), healed.out)
    basis = load_file(original / "directions.safetensors")["resid.4"]
    assert residue(adapted.eval(), basis) < SILENCE[torch.bfloat16]


def test_a_half_edit_keeps_its_half(tmp_path: Path) -> None:
    healed = healed_by("sft", edited(tmp_path, strength=0.5), tmp_path)
    assert healed.proof.drift <= healed.proof.limit
    assert healed.proof.per_layer == ()


def test_the_proof_sees_what_comes_back(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    orthogonalize(llama, direction)
    recipe = Recipe.uniform()
    before = healed_components(llama, find_architecture(llama), direction[None], recipe)
    assert prove_healed(llama, SEQUENCES, direction[None], recipe, before).drift == 0
    with torch.no_grad():
        llama.model.layers[2].mlp.down_proj.weight.add_(1e-4 * direction[:, None])
    with pytest.raises(
        ProofError, match=r"layers\.2\.mlp\.down_proj\.weight: healing brought .* of a random component back"
    ):
        prove_healed(llama, SEQUENCES, direction[None], recipe, before)


def test_progress_is_told(original: Path) -> None:
    told: list[int] = []

    class Counting(Progress):
        def step(self, title: str, total: int, unit: str) -> Any:
            from contextlib import nullcontext

            assert (title, total, unit) == ("healing", 2, "steps")
            return nullcontext(told.append)

    model, tokenizer = tiny()
    basis = load_file(original / "directions.safetensors")["resid.4"]
    orthogonalize(model, basis)
    adapted, training = heal_model(
        model, tokenizer, rows("sft"), basis, options=HealOptions(steps=2, batch_size=2), progress=Counting()
    )
    assert told == [1, 1]
    assert training.steps == 2
    assert residue(adapted, basis) < EXACT


@pytest.mark.parametrize(
    ("method", "content", "message"),
    [
        ("sft", [{"instruction": "a", "output": "b"}], r"has the columns instruction, output; --method sft takes messages or prompt\+completion or text"),
        ("sft", [{"prompt": "a", "chosen": "b", "rejected": "c"}], r"which --method dpo takes; sft takes messages"),
        ("dpo", [{"prompt": "a", "completion": "b"}], r"which --method sft takes; dpo takes prompt\+chosen\+rejected"),
        ("sft", [{"prompt": "a", "completion": "b"}, {"prompt": "a"}], r"row 2 has no completion; every row needs prompt and completion"),
        ("sft", [{"messages": "a"}], r"row 1: messages is a text; all must be texts or all conversations"),
        ("sft", [{"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}], r"prompt is a text, completion is a conversation; all must"),
        ("sft", [{"messages": [{"from": "human", "value": "a"}]}], r"row 1: messages is neither a text nor a list of"),
        ("sft", ["a"], r"row 1 is a str; expected an object with named columns"),
        ("sft", [], r"the dataset is empty; it needs a row for each example"),
        ("orpo", [], r"--method orpo: unknown; choose among sft, dpo"),
    ],
)  # fmt: skip
def test_datasets_that_cannot_be_learned_from(method: str, content: list[Any], message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", content)
    with pytest.raises(InputError, match=message):
        read_examples(path, method)


def test_datasets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.jsonl: no such file; check --dataset"):
        read_examples(str(tmp_path / "missing.jsonl"), "sft")
    (tmp_path / "rows.txt").write_text("a\n")
    with pytest.raises(
        InputError, match=r"rows\.txt: examples are read from \.jsonl, \.json, \.csv and \.parquet files"
    ):
        read_examples(str(tmp_path / "rows.txt"), "sft")
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(InputError, match=r"rows\.jsonl: not UTF-8 text at byte 10; save it as UTF-8"):
        read_examples(str(tmp_path / "rows.jsonl"), "sft")
    with pytest.raises(InputError, match=r"nothing at all: no such dataset; give a"):
        read_examples("nothing at all", "sft")
    with pytest.raises(InputError, match=r"org/none: the dataset cannot be read from the Hub"):
        read_examples("org/none", "sft", offline=True)


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    examples = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    (tmp_path / "rows.json").write_text(json.dumps([{**one, "more": 1} for one in examples]))
    (tmp_path / "rows.csv").write_text("prompt,completion\na,b\nc,d\n")
    parquet.write_table(pyarrow.Table.from_pylist(examples), tmp_path / "rows.parquet")
    written(tmp_path / "rows.jsonl", examples)
    for suffix in ("json", "csv", "parquet", "jsonl"):
        assert read_examples(str(tmp_path / f"rows.{suffix}"), "sft") == examples
        assert read_examples(str(tmp_path / f"rows.{suffix}"), "sft", limit=1) == examples[:1]


def test_what_cannot_be_healed(llama: PreTrainedModel, direction: torch.Tensor, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", rows("sft"))
    with pytest.raises(InputError, match=r"has no recipe\.json; heal a checkpoint that abliterate has edited"):
        heal(str(TINY), path, tmp_path / "healed")
    with pytest.raises(InputError, match=r"healing needs at least 2 examples, one of them to measure on; there are 1"):
        heal_model(llama, AutoTokenizer.from_pretrained(TINY), [{"text": "a"}], direction)
    with pytest.raises(InputError, match=r"--learning-rate -1\.0: must be above 0"):
        HealOptions(learning_rate=-1.0)
    assert not (tmp_path / "healed").exists()


# --- examples --------------------------------------------------------------------------------------------------------


def printed(example: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", EXAMPLES / example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_that_keeps_a_direction_out() -> None:
    plain, kept = (
        float(line.split()[-1]) for line in printed("keep_direction_out.py").splitlines() if "largest" in line
    )
    assert plain > 1e-3
    assert kept < EXACT


@pytest.mark.slow
def test_the_example_that_hardens() -> None:
    """The edit takes all refusals before and leaves most after; other machines round otherwise, so not to the reply."""
    lines = {line[:34].strip(): line[34:].split() for line in printed("harden.py").splitlines() if "/" in line}
    counts = {name: [int(one.partition("/")[0]) for one in found] for name, found in lines.items()}
    assert counts["harmful prompts, edited"][0] <= 2
    assert counts["harmful prompts, edited"][1] >= 15
    assert min(counts["harmful prompts"]) >= 40
    assert max(counts["harmless prompts"]) <= 6
    assert counts["(harmless replies unchanged)"][1] >= 25


def test_the_example_that_heals() -> None:
    assert "largest component at any layer" in printed("heal.py")
