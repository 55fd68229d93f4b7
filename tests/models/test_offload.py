"""Models that stream from the disk: they do what they do in memory, and are read as often as promised."""

from __future__ import annotations

import gc
import os
import platform
from pathlib import Path

import pytest
import torch

from abliterate.activations.capture import chosen_of
from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.layers import decoder_layers
from abliterate.architectures.streams import resid_of
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError
from abliterate.interventions import ablated
from abliterate.interventions.recipe import Recipe
from abliterate.models.batches import prepare_batches
from abliterate.models.forward import final_hidden
from abliterate.models.head import Head
from abliterate.models.loading import load_placed
from abliterate.models.offload import Offload, Sizes, bytes_read, place_layers, sizes_of, working_folder
from abliterate.models.source import Source
from abliterate.proofs.stream import streams
from fixtures.models import FAMILIES, random_model

CPU = torch.device("cpu")
EXPERTS = {
    "hidden_size": 48, "intermediate_size": 80, "moe_intermediate_size": 24, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "num_experts": 6, "num_experts_per_tok": 2,
    "vocab_size": 97, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
"""A model whose experts are stored one by one and fused in memory, so that its weights are converted."""
SEQUENCES = [[3, 14, 15, 9, 26], [5, 35, 8, 9, 79, 32, 38], [4, 6]]


def saved(family: str, folder: Path) -> Source:
    FAMILIES.setdefault("qwen3_moe", EXPERTS)
    random_model(family).save_pretrained(folder)
    return Source(str(folder), Checkpoint.open(folder))


def streaming(source: Source, resident: int = 1, tokens: int = 4096) -> torch.nn.Module:
    model = load_placed(source, torch.float32, CPU, None)
    layers = decoder_layers(model)
    sizes = sizes_of(model, torch.float32)
    found = place_layers(model, sizes, CPU, sizes.outside + sizes.layers[0] + 512 * sizes.token, 0)
    assert found is not None
    places = {**found.device_map, **{layer: "cpu" if n < resident else "disk" for n, layer in enumerate(layers)}}
    return load_placed(source, torch.float32, CPU, Offload(places, tokens))


@pytest.mark.parametrize("family", [*sorted(FAMILIES), "qwen3_moe"])
def test_a_streamed_model_is_the_model(family: str, tmp_path: Path, direction: torch.Tensor) -> None:
    source = saved(family, tmp_path / "model")
    whole, streamed = load_placed(source, torch.float32, CPU, None), streaming(source)
    architecture = find_architecture(streamed)
    assert find_architecture(whole) == architecture
    for before, after in zip(
        streams(whole, architecture, SEQUENCES), streams(streamed, architecture, SEQUENCES), strict=True
    ):
        assert torch.allclose(before, after, rtol=1e-5, atol=1e-5)
    # Gains and biases are read from the disk where hooks need them.
    with ablated(whole, direction, Recipe.uniform(0.5)), ablated(streamed, direction, Recipe.uniform(0.5)):
        for before, after in zip(
            streams(whole, architecture, SEQUENCES), streams(streamed, architecture, SEQUENCES), strict=True
        ):
            assert torch.allclose(before, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_of_a_streamed_model_reads_what_it_is_given(tied: bool, tmp_path: Path) -> None:
    random_model("llama", tie_word_embeddings=tied).save_pretrained(tmp_path / "model")
    source = Source(str(tmp_path / "model"), Checkpoint.open(tmp_path / "model"))
    whole, streamed = load_placed(source, torch.float32, CPU, None), streaming(source)
    hidden = torch.randn(5, 48)
    assert torch.allclose(Head(whole).log_probs(hidden), Head(streamed).log_probs(hidden), atol=1e-5)


def test_a_pass_reads_what_is_not_in_memory_once(tmp_path: Path) -> None:
    model = streaming(saved("llama", tmp_path / "model"), resident=1)
    sizes = sizes_of(model, torch.float32)
    assert bytes_read(model) == 0
    prompts = prepare_batches(model, [[5, 6, 7 + row % 80] + [8] * (row % 30) for row in range(100)])
    assert len(prompts.batches) == 1
    assert prompts.prefix == ()
    with resid_of(model, find_architecture(model)):
        final_hidden(model, prompts.batches[0])
    assert bytes_read(model) == sum(sizes.layers[1:])


def test_more_tokens_than_fit_take_another_pass(tmp_path: Path) -> None:
    model = streaming(saved("llama", tmp_path / "model"), tokens=600)
    assert len(prepare_batches(model, [[5] * 60 for _ in range(21)]).batches) == 3


def test_weights_that_were_converted_go_with_the_model(tmp_path: Path, own_cache: Path) -> None:
    model = streaming(saved("qwen3_moe", tmp_path / "model"))
    folder = own_cache / "offload"
    assert any(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    del model
    gc.collect()
    assert not list(folder.iterdir())


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    gone, other = tmp_path / f"offload-{platform.node()}-999999999-x", tmp_path / "offload-elsewhere-999999999-x"
    gone.mkdir()
    other.mkdir()
    own = working_folder(tmp_path)
    again = working_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {other.name, own.name, again.name}
    assert f"-{os.getpid()}-" in own.name


def test_live_weights_on_the_disk_cannot_be_edited_in_place(tmp_path: Path, direction: torch.Tensor) -> None:
    with pytest.raises(InputError, match="abliterate apply"):
        orthogonalize(streaming(saved("llama", tmp_path / "model")), direction)  # type: ignore[arg-type]


def layers_of(found: Offload | None) -> list[str]:
    assert found is not None
    return [found.device_map[f"model.layers.{number}"] for number in range(4)]


def test_memory_goes_to_a_pass_first_and_then_to_layers() -> None:
    model, sizes = random_model("llama"), Sizes(outside=100, layers=(20000,) * 4, token=1, head=500)
    assert place_layers(model, sizes, CPU, sizes.whole + 2048, 0) is None
    small = place_layers(model, sizes, CPU, 100 + 20000 + 1700, 0)
    assert layers_of(small) == ["disk"] * 4
    assert small is not None
    assert small.tokens == 1700
    assert {small.device_map[name] for name in ("model.embed_tokens", "model.norm")} == {"cpu"}
    assert small.device_map["lm_head"] == "disk"
    large = place_layers(model, sizes, CPU, 100 + 20000 + 32768 + 21000, 0)
    assert layers_of(large) == ["cpu", "disk", "disk", "disk"]
    assert large is not None
    assert large.tokens == 32768


def test_an_accelerator_comes_first_then_memory_then_the_disk() -> None:
    sizes = Sizes(outside=100, layers=(20000,) * 4, token=1, head=500)
    found = place_layers(random_model("llama"), sizes, torch.device("cuda"), 600 + 20000 + 32768 + 21000, 25000)
    assert layers_of(found) == ["cuda", "cpu", "disk", "disk"]
    assert found is not None
    assert found.device_map["lm_head"] == "cuda"


def test_too_little_for_a_single_layer_says_how_much() -> None:
    with pytest.raises(InputError, match="even layer by layer"):
        place_layers(random_model("llama"), Sizes(100, (1000,) * 4, 1), CPU, 1600, 0)


def test_the_positions_that_are_kept_are_those_of_the_streams(tmp_path: Path) -> None:
    model = streaming(saved("gemma3_text", tmp_path / "model"))
    architecture = find_architecture(model)
    batch = prepare_batches(model, SEQUENCES).batches[0]
    with resid_of(model, architecture, chosen_of(batch, (-2, -1), 48, torch.float32)) as kept:
        final_hidden(model, batch)
    with resid_of(model, architecture) as whole:
        final_hidden(model, batch)
    for some, stream in zip(kept, whole, strict=True):
        for row, length in enumerate(batch.lengths.tolist()):
            assert torch.equal(some[row], stream[row, length - 2 : length])
