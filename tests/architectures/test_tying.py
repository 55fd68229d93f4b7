"""Whether the head is the embedding: by what the loaded model shares, in every form that an edit can have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.tying import APART_NOTE, shares_matrix, stored_apart, untie, untie_config
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.in_place import orthogonalize
from abliterate.edits.plan import make_plan
from abliterate.edits.write import write_edited
from abliterate.errors import CheckpointError
from abliterate.exports.peft_adapter import write_adapter
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.models import loading as loading_module
from abliterate.models.loading import load_model
from abliterate.models.source import Source, resolve, resolve_config
from abliterate.projection import normalize
from abliterate.storage.staging import Staging
from fixtures.models import SMALL, random_model
from fixtures.quantized_models import quantise_checkpoint
from fixtures.tiny_chat import everything_on_the_disk

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
TOKENS = torch.arange(5, 23).reshape(3, 6)
KINDS = {
    "tied, not stored": (True, None),
    "tied, stored equal": (True, 0.0),
    "tied, stored apart": (True, 0.3),
    "untied, stored equal": (False, 0.0),
    "untied, stored apart": (False, 0.3),
}
"""What the config says, and how far from the embedding the stored head is."""


def stored(folder: Path, kind: str) -> Path:
    """A checkpoint of a small model, by what its config says of the head and what the files hold."""
    tied, off = KINDS[kind]
    random_model("llama", tie_word_embeddings=True).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if off is not None:
        embedding = weights[EMBEDDING]
        noise = torch.randn(embedding.shape, generator=torch.Generator().manual_seed(3))
        weights[HEAD] = embedding + off * noise
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    return folder


def plain(folder: Path) -> PreTrainedModel:
    """The model as anybody loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS, use_cache=False).logits


def along() -> torch.Tensor:
    return normalize(torch.randn(SMALL["hidden_size"], generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_hooks_weights_checkpoint_and_adapter_are_one_model(kind: str, strength: float, tmp_path: Path) -> None:
    folder = stored(tmp_path / "model", kind)
    source, direction, recipe = resolve(str(folder)), along(), Recipe.uniform(strength)
    found = find_architecture(source.empty)
    assert found.tied == shares_matrix(plain(folder)) == shares_matrix(load_model(source, "float32", "cpu"))
    assert found.tied == (kind in ("tied, not stored", "tied, stored equal"))
    with ablated(plain(folder), direction, recipe) as live:
        expected = logits(live)
    plan = make_plan(recipe, direction, found, source.empty, source.checkpoint)
    with Staging.open(tmp_path / "edited", plan.digest) as staging:
        write_edited(plan, source.checkpoint, staging)
        staging.publish()
    name = str(folder)
    write_adapter(plan, source.empty, found, source.checkpoint, name, None, tmp_path / "adapter")
    adapted = plain(folder)
    adapted.load_adapter(str(tmp_path / "adapter"))
    forms = {
        "orthogonalize": orthogonalize(plain(folder), direction, recipe),
        "checkpoint": plain(tmp_path / "edited"),
        "adapter": adapted,
    }
    for form, model in forms.items():
        assert torch.allclose(logits(model), expected, rtol=1e-4, atol=1e-4), form
    assert not torch.allclose(logits(plain(folder)), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_streaming_from_the_disk_changes_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(tmp_path / "model", kind)
    source = resolve(str(folder))
    monkeypatch.setattr(loading_module, "place_layers", everything_on_the_disk_of(source))
    streamed = load_model(source, "float32", "cpu")
    assert shares_matrix(streamed) == find_architecture(source.empty).tied
    assert torch.allclose(logits(streamed), logits(plain(folder)), atol=1e-5)
    with ablated(streamed, along()) as live:
        hooked = logits(live)
    assert torch.allclose(hooked, logits(orthogonalize(plain(folder), along())), rtol=1e-4, atol=1e-4)


def everything_on_the_disk_of(source: Source) -> object:
    return lambda *_: everything_on_the_disk(source)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_whose_ends_are_both_on_the_disk_is_told_by_its_numbers(kind: str, tmp_path: Path) -> None:
    folder = stored(tmp_path / "model", kind)
    places = {"model.embed_tokens": "disk", "lm_head": "disk", "model.layers": "cpu", "model.norm": "cpu"}
    places["model.rotary_emb"] = "cpu"
    away = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map=places, offload_folder=str(tmp_path / "away")
    )
    assert shares_matrix(away) == shares_matrix(plain(folder))


def test_a_head_that_is_missing_and_not_tied_is_an_error(tmp_path: Path) -> None:
    folder = stored(tmp_path / "model", "tied, not stored")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(CheckpointError, match=r"lm_head.weight"):
        load_model(resolve(str(folder)), "float32", "cpu")


@pytest.mark.parametrize("kind", ["tied, stored equal", "tied, stored apart"])
def test_quantised_weights_say_nothing_else(kind: str, tmp_path: Path) -> None:
    folder = quantise_checkpoint(stored(tmp_path / "model", kind), "fp8 block")
    source = resolve(str(folder))
    assert source.apart == (kind == "tied, stored apart")
    assert shares_matrix(load_model(source, "float32", "cpu")) != source.apart


def test_other_dtypes_of_the_same_numbers_are_one_matrix(tmp_path: Path) -> None:
    folder = stored(tmp_path / "model", "tied, stored equal")
    weights = load_file(folder / "model.safetensors")
    weights[EMBEDDING] = weights[EMBEDDING].bfloat16()
    weights[HEAD] = weights[EMBEDDING].float()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert not resolve(str(folder)).apart
    assert shares_matrix(plain(folder))


def test_what_is_stored_apart_is_said_once_and_by_every_opening(tmp_path: Path) -> None:
    apart, equal = (stored(tmp_path / kind, f"tied, stored {kind}") for kind in ("apart", "equal"))
    assert resolve(str(apart)).oddities == (APART_NOTE,)
    assert resolve(str(equal)).oddities == ()
    assert not shares_matrix(resolve_config(str(apart))[1])
    assert shares_matrix(resolve_config(str(equal))[1])


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.parametrize("text", [True, False])
def test_a_config_inside_a_config_is_followed_as_transformers_does(top: bool, text: bool, tmp_path: Path) -> None:
    small = {**SMALL, "sliding_window": 16, "layer_types": None, "tie_word_embeddings": text}
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
    config = AutoConfig.for_model(
        "gemma3", text_config=small, vision_config=vision, mm_tokens_per_image=4, tie_word_embeddings=top,
        image_token_index=90, boi_token_index=91, eoi_token_index=92, architectures=["Gemma3ForConditionalGeneration"],
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path / "model")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    shared = loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    source = resolve(str(tmp_path / "model"))
    assert shares_matrix(loaded) == shares_matrix(source.empty) == shared
    assert find_architecture(source.empty).tied == shared


def test_untying_is_seen_whatever_the_config_says(llama: PreTrainedModel) -> None:
    tied = random_model("llama", tie_word_embeddings=True)
    assert shares_matrix(tied)
    assert not shares_matrix(llama)
    untie(tied)
    assert not shares_matrix(tied)
    assert tied.config.tie_word_embeddings is False
    tied.config.tie_word_embeddings = True
    assert not find_architecture(tied).tied
    untie_config(tied, tied.config)
    assert tied.config.tie_word_embeddings is False


def test_a_checkpoint_without_the_embedding_ties_to_its_head(tmp_path: Path) -> None:
    folder = stored(tmp_path / "model", "tied, stored equal")
    weights = load_file(folder / "model.safetensors")
    del weights[EMBEDDING]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    source = resolve(str(folder))
    assert not stored_apart(source.empty, Checkpoint.open(folder))
    assert shares_matrix(plain(folder))
