"""An edit as a LoRA: adapter form equals hook form equals weight form, on and off, added and taken away."""

from __future__ import annotations

import copy
import json
import resource
import sys
from importlib import resources
from pathlib import Path

import peft
import pytest
import torch
from peft.helpers import rescale_adapter_scale
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from abliterate.activations.capture import capture
from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.directions.methods import difference_in_means
from abliterate.edits.plan import make_plan
from abliterate.edits.write import write_edited
from abliterate.errors import CheckpointError, InputError
from abliterate.exports.peft_adapter import prepare_adapter, untie, write_adapter, write_files
from abliterate.exports.peft_factors import FactoredLayer, named_factors
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.models.generation import generate
from abliterate.models.source import resolve
from abliterate.projection import orthonormal_basis
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import load_prompts
from abliterate.proofs.census import class_and_config, published_config
from abliterate.replies.refusals import is_refusal
from abliterate.storage.staging import Staging
from fixtures.models import FAMILIES, random_model
from fixtures.quantized_models import quantise_checkpoint, random_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft asks transformers for it
    pytest.mark.filterwarnings(
        "ignore:Model (has|with) .*tie_word_embeddings=True:UserWarning"
    ),  # of merging: see `untie`
]

TINY = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))
TOKENS = torch.arange(5, 23).reshape(3, 6)


def basis_of(width: int, rank: int) -> torch.Tensor:
    return orthonormal_basis(torch.randn(rank, width, generator=torch.Generator().manual_seed(7)))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS, use_cache=False).logits


def fractions(depth: int, *sites: str) -> Recipe:
    """A recipe with another strength for every site and layer."""
    steps = tuple(0.2 + 0.15 * layer for layer in range(depth))
    values = {"embed": 0.6, "attn": steps, "mlp": tuple(1.3 - step for step in steps)}
    return Recipe({site: values[site] for site in sites or values})


class Made:
    """A model saved in a folder, the adapter written for it, and the plan that both follow."""

    def __init__(
        self, model: PreTrainedModel, folder: Path, recipe: Recipe, rank: int = 1, basis: torch.Tensor | None = None
    ) -> None:
        self.model, self.recipe = model, recipe
        self.base, self.adapter, self.edited = folder / "base", folder / "adapter", folder / "edited"
        model.save_pretrained(self.base)
        self.architecture = find_architecture(model)
        self.basis = basis_of(self.architecture.d_model, rank) if basis is None else basis
        self.checkpoint = Checkpoint.open(self.base)
        with torch.device("meta"):
            self.empty = type(model)._from_config(copy.deepcopy(model.config))
        self.plan = make_plan(recipe, self.basis, self.architecture, self.empty, self.checkpoint)

    def write(self, **options: bool) -> Made:
        name = str(self.base)
        write_adapter(
            self.plan, self.empty, self.architecture, self.checkpoint, name, None, self.adapter, **options
        )  # fmt: skip
        return self

    def load(self, folder: Path | None = None) -> PreTrainedModel:
        return type(self.model).from_pretrained(folder or self.base, dtype=torch.float32).eval()

    def hooked(self) -> torch.Tensor:
        model = self.load()
        with ablated(model, self.basis, self.recipe, self.architecture):
            return logits(model)

    def write_edited(self) -> Path:
        with Staging.open(self.edited, self.plan.digest) as staging:
            write_edited(self.plan, self.checkpoint, staging)
            staging.publish()
        return self.edited


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4 * float(other.abs().max()), rtol=0)


def check(made: Made) -> None:
    """All laws of one adapter."""
    made.write()
    expected, original = made.hooked(), logits(made.load())
    assert not close(expected, original)

    wrapped = peft.PeftModel.from_pretrained(made.load(), made.adapter)
    assert close(logits(wrapped), expected)
    with wrapped.disable_adapter():
        assert close(logits(wrapped), original)

    loaded = made.load()
    report = loaded.load_adapter(str(made.adapter))
    assert not report.missing_keys
    assert not report.unexpected_keys
    assert close(logits(loaded), expected)

    base = made.load()
    untie(base)
    merged = peft.PeftModel.from_pretrained(base, made.adapter).merge_and_unload()
    assert close(logits(merged), expected)
    edited = made.load(made.write_edited())
    assert set(merged.state_dict()) == set(edited.state_dict())
    for name, tensor in edited.state_dict().items():
        assert torch.allclose(merged.state_dict()[name], tensor, atol=1e-5), name

    untie(edited)
    undone = peft.PeftModel.from_pretrained(edited, made.adapter)
    with rescale_adapter_scale(undone, -1.0):
        assert close(logits(undone), original)
        assert close(logits(undone.merge_and_unload()), original)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gpt2"}))
def test_adapter_form_equals_hook_form_equals_weight_form(family: str, tied: bool, tmp_path: Path) -> None:
    check(Made(random_model(family, tie_word_embeddings=tied), tmp_path, fractions(4), 2))


def test_at_strength_1_and_of_rank_1(llama: PreTrainedModel, tmp_path: Path) -> None:
    check(Made(llama, tmp_path, Recipe.uniform()))


@pytest.mark.parametrize("sites", [("embed",), ("attn",), ("attn", "mlp")], ids="+".join)
def test_conv1d_with_biases_and_learned_positions(sites: tuple[str, ...], tmp_path: Path) -> None:
    check(Made(random_model("gpt2"), tmp_path, fractions(4, *sites), 2))


def test_linear_layers_with_biases(tmp_path: Path) -> None:
    model = random_model("llama", attention_bias=True, mlp_bias=True)
    made = Made(model, tmp_path, fractions(4, "attn", "mlp"))
    check(made)
    assert json.loads((made.adapter / "adapter_config.json").read_text())["lora_bias"] is True


def test_biases_that_do_not_write_along_the_basis_need_none(tmp_path: Path) -> None:
    model = random_model("llama", attention_bias=True)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.bias.zero_()
    check(Made(model, tmp_path, Recipe.uniform()))


# PEFT counts only modules when it looks for what a rank pattern matches; it does use it for parameters.
@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize(
    ("model_type", "sites"),
    [
        ("mixtral", ()),
        ("qwen2_moe", ()),  # a shared expert, whose name PEFT takes for that of an expert
        ("llama4_text", ()),  # the residual on the last axis
        ("gpt_oss", ("mlp",)),  # a bias for each expert
        ("opt", ("embed",)),  # positions that are counted inside the embedding
        ("inkling_text", ()),  # bases of several ranks
    ],
)
def test_experts_and_embeddings_by_their_parameters(model_type: str, sites: tuple[str, ...], tmp_path: Path) -> None:
    model = random_clone(*class_and_config(model_type, published_config(model_type)))
    check(Made(model, tmp_path, fractions(find_architecture(model).depth, *sites), 2))


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
    directions = difference_in_means(*(capture(model, tokenizer, side.side("train")) for side in (harmful, harmless)))
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


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "sites", "message"),
    [
        ("gpt2", (), r"c_proj.bias: PEFT cannot adapt a bias \(lora_bias\) in one adapter with transformer.wpe.weight, "
                     r"which is no linear layer; leave one of the two out with --sites; or write an edited checkpoint"),
        ("codegen", (), r"fc_out.bias: PEFT cannot adapt a bias .* with transformer.h.0.attn.out_proj.weight, whose layer has none"),
        ("bloom", (), r"word_embeddings_layernorm.bias: a vector outside of a linear layer \(LayerNorm\), which LoRA cannot add to"),
        ("falcon_mamba", (), r"PEFT does not adapt this model: .*'out_proj' is incompatible with Mamba.*; write an edited checkpoint"),
        ("dbrx", (), r"dbrx: a small model of this kind does not run with an adapter \('ParamWrapper' object has no attribute 'v1'\)"),
        ("laguna", (), r"laguna: on a small model of this kind an adapter is not exact \(relative difference of the logits "),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
)  # fmt: skip
def test_what_no_adapter_holds_exactly_is_refused(
    model_type: str, sites: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    model = random_clone(*class_and_config(model_type, published_config(model_type)))
    made = Made(model, tmp_path, Recipe.uniform(0.7))
    with pytest.raises(InputError, match=message):
        made.write()
    assert {path.name for path in tmp_path.iterdir()} == {"base"}


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


def test_factors_that_peft_would_not_load_are_not_written(llama: PreTrainedModel, tmp_path: Path) -> None:
    made = Made(llama, tmp_path, Recipe.uniform())
    target = prepare_adapter(made.plan, made.empty, made.architecture, made.checkpoint, "base", None).targets[0]
    pair = torch.zeros(1, 97), torch.zeros(48, 1)
    for layers in ({}, {target.parameter: FactoredLayer(("a", "b"), ((1, 97), (47, 1)))}):
        with pytest.raises(InputError, match=r"embed_tokens.weight: the edit has factors of .*\(48, 1\)\), PEFT "):
            named_factors(target, layers, pair)
