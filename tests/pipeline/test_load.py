"""What a run opens: its model, its records, and whether its form can hold the edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.models.source import resolve
from abliterate.pipeline import load as loading_run
from abliterate.pipeline.load import Loaded, check_forms, load_run, open_unfinished, with_search_settled
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT
from abliterate.proofs.census import class_and_config, published_config
from fixtures.models import random_model
from fixtures.tiny_chat import options

ADAPTER = Options("model", Path("out"), save=("adapter",))


@pytest.mark.parametrize(
    ("changes", "streams", "searches"),
    [
        ({}, False, True),
        ({"layer": 3}, False, False),
        ({"strength": 0.5}, False, False),
        ({"form": "open"}, False, False),
        ({"edit_form": "columns"}, False, False),
        ({"layer": 3, "optimize": True}, False, True),
        ({"optimize": False}, False, False),
        ({"mode": "calm"}, False, True),
        ({}, True, False),
        ({"optimize": True}, True, True),  # the search itself says that it cannot
    ],
)
def test_a_run_settles_whether_it_searches(
    changes: dict[str, Any], streams: bool, searches: bool, llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading_run, "streaming_of", lambda model: "streams" if streams else None)
    settled, notes = with_search_settled(Options("model", Path("out"), **changes), llama)
    assert settled.optimize is searches
    assert bool(notes) is (streams and not changes)


def test_flags_of_a_search_are_not_passed_over_where_there_can_be_none(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading_run, "streaming_of", lambda model: "streams")
    with pytest.raises(InputError, match=r"--edit-rank, --max-kl: for a search, .* leave them away"):
        with_search_settled(Options("model", Path("out"), max_kl=0.1, edit_rank=2), llama)
    with pytest.raises(InputError, match="--pick: for a search"):
        with_search_settled(Options("model", Path("out"), pick="knee"), llama)
    with pytest.raises(InputError, match="--keep: for a search"):
        with_search_settled(Options("model", Path("out"), keep="mine.txt"), llama)
    with pytest.raises(InputError, match="--mode calm: for a search"):
        with_search_settled(Options("model", Path("out"), mode="calm"), llama)


def test_what_no_adapter_holds_is_refused_before_the_search(tmp_path: Path) -> None:
    """gpt2 has biases beside an embedding, which no LoRA holds together."""
    model = random_model("gpt2")
    model.save_pretrained(tmp_path / "gpt2")
    source = resolve(str(tmp_path / "gpt2"))
    with pytest.raises(InputError, match="bias"):
        check_forms(ADAPTER, Recipe.uniform(), source, find_architecture(source.empty))
    # A bias alone it holds.
    check_forms(ADAPTER, Recipe.adding(1.0, 1), source, find_architecture(source.empty))


def test_biases_of_fused_experts_are_no_adapters_and_refused_before_the_trials(tmp_path: Path) -> None:
    random_clone(*class_and_config("gpt_oss", published_config("gpt_oss"))).save_pretrained(tmp_path / "gpt_oss")
    source = resolve(str(tmp_path / "gpt_oss"))
    with pytest.raises(InputError, match=r"--save adapter: .*PEFT"):
        check_forms(ADAPTER, Recipe.adding(1.0, 1), source, find_architecture(source.empty))


@pytest.mark.parametrize(
    ("family", "save", "leave_out", "message"),
    [
        ("qwen2", ("checkpoint", "gguf-adapter"), (), None),
        ("llama", ("checkpoint", "adapter", "gguf-adapter"), ("embed",), None),
        ("gpt2", ("checkpoint", "adapter"), (), r"--save adapter: .*bias: PEFT cannot"),
        ("gpt2", ("checkpoint", "gguf-adapter"), ("embed",), r"--save gguf-adapter: .*is a bias, which .*llama\.cpp cannot"),
        ("llama", ("checkpoint", "gguf-adapter"), ("embed", "attn", "mlp"), r"leave out fewer sites"),
    ],
)  # fmt: skip
def test_forms_beside_a_checkpoint_are_tried_before_any_weights_are_loaded(
    family: str, save: tuple[str, ...], leave_out: tuple[Any, ...], message: str | None, tmp_path: Path
) -> None:
    tied = {"tie_word_embeddings": family == "llama"}
    random_model(family, **(tied if family != "gpt2" else {})).save_pretrained(tmp_path / family)
    source = resolve(str(tmp_path / family))
    options = Options(family, tmp_path, save=save, leave_out=leave_out)
    if message is None:
        check_forms(options, Recipe.uniform(), source, find_architecture(source.empty))
        return
    with pytest.raises(InputError, match=message):
        check_forms(options, Recipe.uniform(), source, find_architecture(source.empty))


def test_the_value_of_the_readme_says_on_a_tied_model_what_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading_run, "load_model", None)  # which is not called
    with pytest.raises(InputError, match=r"--save gguf-adapter: model\.embed_tokens\.weight: .*--leave-out embed"):
        load_run(options(tmp_path / "out", save=("checkpoint", "adapter", "gguf-adapter")), SILENT)
    assert not any(tmp_path.iterdir())


def test_records_are_those_of_one_command_on_one_model(
    loaded: Loaded, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder(given: Any = loaded.options) -> Path:
        unfinished = open_unfinished(given, loaded.source, loaded.model)
        assert unfinished.path.parent.is_dir()
        return unfinished.path.parent

    usual = folder()
    assert folder() == usual
    others = [replace(loaded.options, **change) for change in ({"layer": 3}, {"system": "Be kind."}, {"batch_size": 8})]
    found = {usual, *map(folder, others)}
    for place, name, value in (
        (loading_run, "code_digest", lambda: "other"),
        (loading_run, "version", lambda name: "0"),
        (loading_run, "hardware", lambda device: {}),
        (Checkpoint, "fingerprint", lambda checkpoint: "other"),
        (PreTrainedModel, "dtype", torch.float16),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            found.add(folder())
    assert len(found) == 9
