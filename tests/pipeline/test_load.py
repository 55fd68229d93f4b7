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
from abliterate.pipeline.load import Loaded, check_adapter, open_unfinished
from abliterate.proofs.census import class_and_config, published_config
from fixtures.models import random_model


def test_what_no_adapter_holds_is_refused_before_the_search(tmp_path: Path) -> None:
    """gpt2 has biases beside an embedding, which no LoRA holds together."""
    model = random_model("gpt2")
    model.save_pretrained(tmp_path / "gpt2")
    source = resolve(str(tmp_path / "gpt2"))
    empty = source.empty
    with pytest.raises(InputError, match="bias"):
        check_adapter(Recipe.uniform(), source, empty, find_architecture(empty))
    check_adapter(Recipe.adding(1.0, 1), source, empty, find_architecture(empty))  # a bias alone it holds


def test_biases_of_fused_experts_are_no_adapters_and_refused_before_the_trials(tmp_path: Path) -> None:
    random_clone(*class_and_config("gpt_oss", published_config("gpt_oss"))).save_pretrained(tmp_path / "gpt_oss")
    source = resolve(str(tmp_path / "gpt_oss"))
    empty = source.empty
    with pytest.raises(InputError, match=r"PEFT"):
        check_adapter(Recipe.adding(1.0, 1), source, empty, find_architecture(empty))


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
