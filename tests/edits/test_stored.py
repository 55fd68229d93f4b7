"""A model's parameters as a checkpoint holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.stored import Stored
from abliterate.errors import CheckpointError
from fixtures.models import random_model


def stored_of(model: PreTrainedModel, folder: Path, **changes: torch.Tensor | None) -> Stored:
    """Save a model, with some of its tensors replaced or taken away."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: one for name, one in tensors.items() if one is not None}, path, {"format": "pt"})
    return Stored.of(model, Checkpoint.open(folder))


def test_every_writer_has_its_place_and_its_axis(model: PreTrainedModel, tmp_path: Path) -> None:
    stored = stored_of(model, tmp_path)
    on_disk = load_file(tmp_path / "model.safetensors")
    for writer in find_architecture(model).writers:
        for parameter in writer.parameters:
            for place in stored.places(writer, parameter):
                assert on_disk[place.name].shape == place.shape
                assert place.shape[place.axis] == 48
                assert place.weight is None
                assert not place.converted
                assert torch.equal(stored.read(f"{writer.module}.{parameter.name}"), on_disk[place.name])


def test_tied_parameters_are_found_under_either_name(tmp_path: Path) -> None:
    stored = stored_of(random_model("gpt2"), tmp_path)
    assert stored.named("transformer.wte.weight") == stored.named("lm_head.weight") == ["transformer.wte.weight"]


def test_what_is_not_there_or_of_another_kind_is_named(llama: PreTrainedModel, tmp_path: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    with pytest.raises(CheckpointError, match=rf"tensor {name}, which writes to the residual stream, is missing"):
        stored_of(llama, tmp_path / "missing", **{name: None}).read(name)
    for number, wrong in enumerate((torch.ones(48, 81), torch.ones(48, 80, dtype=torch.uint8))):
        with pytest.raises(CheckpointError, match=rf"tensor {name} is .*, expected floats \(48, 80\)"):
            stored_of(llama, tmp_path / str(number), **{name: wrong}).read(name)


def test_what_the_model_does_not_load_is_left_alone(llama: PreTrainedModel, tmp_path: Path) -> None:
    assert stored_of(llama, tmp_path / "own").left_alone() == ()
    assert stored_of(llama, tmp_path / "more", **{"mtp.weight": torch.ones(2)}).left_alone() == ("mtp.weight",)
