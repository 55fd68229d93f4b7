"""An edit as a LoRA: adapter form equals hook form equals weight form, on and off, added and taken away."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from abliterate.activations.capture import capture
from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.tying import untie
from abliterate.directions.methods import projected_difference_in_means
from abliterate.edits.plan import make_plan
from abliterate.errors import CheckpointError, InputError
from abliterate.exports.peft_adapter import prepare_adapter, write_adapter, write_files
from abliterate.interventions.recipe import Recipe
from abliterate.models.generation import generate
from abliterate.models.source import resolve
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import load_prompts
from abliterate.replies.refusals import is_refusal
from abliterate.storage.staging import Staging
from fixtures.models import FAMILIES, random_model
from fixtures.peft_adapters import Made, basis_of, check, close, fractions, logits, own_fractions
from fixtures.quantized_models import quantise_checkpoint, random_checkpoint
from fixtures.tiny_chat import TINY

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft asks transformers for it
    pytest.mark.filterwarnings(
        "ignore:Model (has|with) .*tie_word_embeddings=True:UserWarning"
    ),  # of merging: see `untie`
]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gpt2"}))
def test_adapter_form_equals_hook_form_equals_weight_form(family: str, tied: bool, tmp_path: Path) -> None:
    check(Made(random_model(family, tie_word_embeddings=tied), tmp_path, fractions(4), 2))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "olmo2"])
def test_directions_with_their_own_strengths_are_the_same_in_all_forms(family: str, tmp_path: Path) -> None:
    check(Made(random_model(family, tie_word_embeddings=True), tmp_path, own_fractions(4), 2))


def test_the_folder_holds_two_files_with_scaling_1_and_the_same_bytes_again(
    llama: PreTrainedModel, tmp_path: Path
) -> None:
    made = Made(llama, tmp_path, Recipe.uniform(), 2).write()
    config = json.loads((made.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"]) == (2, 2, {})
    assert (config["peft_type"], config["task_type"]) == ("LORA", "CAUSAL_LM")
    assert (config["base_model_name_or_path"], config["revision"]) == (str(made.base), None)
    tensors = load_file(made.adapter / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert all(2 in tensor.shape for tensor in tensors.values())
    assert {path.name for path in made.adapter.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}

    before = {path.name: path.read_bytes() for path in made.adapter.iterdir()}
    with pytest.raises(InputError, match="exists; pass --force to replace it"):
        made.write()
    made.write(force=True)
    assert {path.name: path.read_bytes() for path in made.adapter.iterdir()} == before


def test_peft_merges_a_tied_matrix_twice_unless_it_is_untied(tmp_path: Path) -> None:
    made = Made(random_model("llama", tie_word_embeddings=True), tmp_path, Recipe.uniform()).write()
    with pytest.warns(UserWarning, match="Model with `tie_word_embeddings=True`"):
        merged = peft.PeftModel.from_pretrained(made.load(), made.adapter).merge_and_unload()
    assert not close(logits(merged), made.hooked())

    late = peft.PeftModel.from_pretrained(made.load(), made.adapter)
    untie(late.get_base_model())
    assert close(logits(late), made.hooked())
    merged = late.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for one in (merged, made.load(tmp_path / "merged")):
        assert close(logits(one), made.hooked())
        assert one.lm_head.weight is not one.model.embed_tokens.weight


def test_an_untied_model_stays_as_it_is() -> None:
    llama = random_model("llama", tie_word_embeddings=False)
    head = llama.lm_head.weight
    untie(llama)
    assert llama.lm_head.weight is head


def test_the_tiny_chat_model_refuses_under_the_adapter_as_its_edited_checkpoint_does(tmp_path: Path) -> None:
    # In float32 the direction is the same on every machine, but for the last digits.
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    harmful, harmless = (load_prompts(str(TINY / f"{name}.txt")) for name in ("harmful", "harmless"))
    directions = projected_difference_in_means(
        *(capture(model, tokenizer, side.side("train")) for side in (harmful, harmless))
    )
    made = Made(model, tmp_path, Recipe.uniform(), basis=directions[4][None]).write()
    prompts = [*harmful.side("report").prompts, *harmless.side("report").prompts]

    def replies(one: PreTrainedModel) -> list[str]:
        return tokenizer.batch_decode(generate(one, tokenizer, ChatFormat(tokenizer).encode(prompts), 32))

    base, edited = made.load(), made.load(made.write_edited())
    before, expected = replies(base), replies(edited)
    base.load_adapter(str(made.adapter))
    found = replies(base)
    assert sum(map(is_refusal, before)) >= 0.9 * len(harmful.side("report").prompts)
    assert list(map(is_refusal, found)) == list(map(is_refusal, expected))
    assert sum(map(is_refusal, found)) <= 0.05 * len(prompts)
    base.disable_adapters()
    assert replies(base) == before


def test_a_quantised_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = quantise_checkpoint(random_checkpoint("llama", tmp_path / "base"), "fp8 tensor")
    source = resolve(str(folder))
    empty = source.empty
    architecture = find_architecture(empty)
    plan = make_plan(Recipe.uniform(), basis_of(128, 1), architecture, empty, source.checkpoint)
    with pytest.raises(InputError, match="is quantised; make the adapter from the unquantised checkpoint"):
        write_adapter(plan, empty, architecture, source.checkpoint, "base", None, tmp_path / "adapter")


def test_a_full_disk_is_said_in_one_line(llama: PreTrainedModel, tmp_path: Path) -> None:
    made = Made(llama, tmp_path, Recipe.uniform())
    prepared = prepare_adapter(made.plan, made.empty, made.architecture, made.checkpoint, "base", None)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Staging.open(made.adapter, "identity") as staging:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, before[1]))
        try:
            with pytest.raises(
                CheckpointError, match=r"adapter_model.safetensors cannot be written \(File too large\)"
            ):
                write_files(prepared, made.empty, made.checkpoint, staging)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not made.adapter.exists()


def test_without_peft(llama: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(llama, tmp_path, Recipe.uniform())
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="writing an adapter needs peft, which is not installed: pip install "):
        made.write()
