"""Slow checks on the small real models, run by hand: `pytest -m models` (see ABLITERATE_TEST_MODELS)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from abliterate.architectures.architecture import find_architecture
from abliterate.commands.apply import apply
from abliterate.commands.evaluate import evaluate
from abliterate.commands.export import export
from abliterate.errors import ArchitectureError, InputError
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import run
from abliterate.proofs.stream import SILENCE, plain_sequences, relative_component
from fixtures.folders import FIXTURES, SHARED

pytestmark = pytest.mark.models


def prompts() -> dict[str, str]:
    folder = SHARED / "data" / "prompts"
    if not folder.is_dir():
        pytest.skip("the published instruction lists are not beside this checkout")
    return {side: str(folder / f"{side}_train.json") for side in ("harmful", "harmless")}


def test_qwen_stops_refusing_at_little_damage(real_models: Path, tmp_path: Path) -> None:
    options = Options(
        str(real_models / "qwen2.5-0.5b-it"), tmp_path / "edited", system="You are a helpful assistant.", optimize=False
    )
    measured = run(replace(options, **prompts())).measured
    assert measured.original is not None
    assert measured.edited is not None
    assert measured.divergence is not None
    assert measured.original.harmful_refusals.value > 0.25
    assert measured.edited.harmful_refusals.value <= 0.06
    assert measured.divergence.first_token.value <= 0.12


def test_smollm_says_that_it_hardly_refuses(real_models: Path, tmp_path: Path) -> None:
    options = Options(str(real_models / "smollm2-135m-it"), tmp_path / "edited", optimize=False)
    assert "hardly refuses" in run(replace(options, **prompts())).notes[0]


@pytest.mark.parametrize(("dtype", "ratio"), [(torch.bfloat16, 1e-2), (torch.float32, 1e-6)])
def test_gemma_is_silent_behind_its_norms(real_models: Path, tmp_path: Path, dtype: torch.dtype, ratio: float) -> None:
    folder = tmp_path / "gemma"
    AutoModelForCausalLM.from_pretrained(real_models / "gemma-3-270m", dtype=dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(real_models / "gemma-3-270m").save_pretrained(folder)
    direction = torch.nn.functional.normalize(torch.randn(640, generator=torch.Generator().manual_seed(0)), dim=0)
    save_file({"resid.9": direction}, tmp_path / "directions.safetensors")
    options = Options(str(folder), tmp_path / "edited")
    proof = apply(options, tmp_path / "directions.safetensors", None).proof
    assert proof.before is not None
    assert proof.largest <= ratio * proof.before


@pytest.mark.parametrize("name", ["smollm2-135m-it", "qwen2.5-0.5b-it"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_hooks_leave_no_more_than_the_proof_allows(real_models: Path, name: str, dtype: torch.dtype) -> None:
    # Nothing but rounding is left under hooks: what SILENCE must allow, and not much more.
    model = AutoModelForCausalLM.from_pretrained(real_models / name, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(real_models / name)
    architecture = find_architecture(model)
    size = architecture.d_model
    direction = torch.nn.functional.normalize(torch.randn(size, generator=torch.Generator().manual_seed(0)), dim=0)
    sequences = plain_sequences(tokenizer)
    with ablated(model, direction, architecture=architecture):
        largest = max(relative_component(model, architecture, direction[None], sequences))
    assert SILENCE[dtype] / 200 < largest < SILENCE[dtype]


def test_a_base_model_without_a_template_says_so(real_models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--chat-template FILE"):
        run(Options(str(real_models / "gemma-3-270m"), tmp_path / "edited"))


def test_a_gguf_file_is_a_model(real_models: Path, tmp_path: Path) -> None:
    model = str(real_models / "smollm2-135m-it.gguf")
    one = run(Options(model, tmp_path / "edited", layer=12, n_train=32))
    assert one.manifest["source"]["model"] == "smollm2-135m-it.gguf"
    assert one.measured.proof.kind == "silence"


def test_a_real_model_evaluated_against_itself_does_not_differ(
    real_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the harness's tasks run on it, without a network."""
    monkeypatch.chdir(FIXTURES / "lm_eval_task")
    model = str(real_models / "smollm2-135m-it")
    wanted = EvaluateOptions(reply_tokens=24, n_prompts=12, tasks=("tiny_words.yaml",))
    one = evaluate(Options(model, Path()), wanted, model)
    assert one.against is not None
    assert one.model == one.against
    for figure in one.figures:
        if figure.name.startswith("KL"):
            assert figure.model is not None
            assert set(figure.model.values) == {0.0}
    assert one.to_json()["tasks"]["tiny_words"]["acc"]["model"]["count"] > 0


@pytest.mark.parametrize("name", ["qwen2.5-0.5b-it", "smollm2-135m-it", "gemma-3-270m"])
@pytest.mark.parametrize("strengths", [1.0, 0.5])
def test_an_adapter_is_the_hook_form(real_models: Path, tmp_path: Path, name: str, strengths: float) -> None:
    """Along any direction: gains behind writers, tied and untied embeddings. The export proves it or raises."""
    width = AutoConfig.from_pretrained(real_models / name).hidden_size
    direction = torch.nn.functional.normalize(torch.randn(width, generator=torch.Generator().manual_seed(0)), dim=0)
    save_file({"resid.5": direction}, tmp_path / "directions.safetensors")
    recipe = Recipe.uniform(strengths, direction="resid.5").to_json()
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    one = export(
        ExportOptions(tmp_path, "adapter"), Options(str(real_models / name), tmp_path / "adapter", dtype="float32")
    )
    assert one.proof is not None
    assert one.proof.holds
    assert one.proof.largest < 1e-5
    assert one.nbytes < 10_000_000


@pytest.mark.parametrize("name", ["qwen2.5-0.5b-it", "smollm2-135m-it"])
def test_an_adapter_that_adds_is_the_hook_form(real_models: Path, tmp_path: Path, name: str) -> None:
    width = AutoConfig.from_pretrained(real_models / name).hidden_size
    direction = torch.nn.functional.normalize(torch.randn(width, generator=torch.Generator().manual_seed(0)), dim=0)
    save_file({"resid.12": direction}, tmp_path / "directions.safetensors")
    (tmp_path / "recipe.json").write_text(json.dumps(Recipe.adding(8.0, 12).to_json()))
    one = export(
        ExportOptions(tmp_path / "recipe.json", "adapter"),
        Options(str(real_models / name), tmp_path / "adapter", dtype="float32"),
    )
    assert one.proof is not None
    assert one.proof.kind == "agreement"
    assert one.proof.largest < 1e-5


def test_what_gemma_cannot_hold_is_refused_before_its_weights_are_read(real_models: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}\n{% endfor %}")
    options = Options(str(real_models / "gemma-3-270m"), tmp_path / "out", mode="induce", chat_template=template)
    with pytest.raises(ArchitectureError, match="abliterate export --to control-vector"):
        run(options)
