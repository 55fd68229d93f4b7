"""What a source knows of itself: its empty model, built once; and of its checkpoint, how that is quantised."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from abliterate.checkpoints import checkpoint as checkpoint_module
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.partial_blocks import dequantized_here
from abliterate.checkpoints.quantized_weight import quantised_tensors, quantized_weights
from abliterate.errors import CheckpointError, InputError
from abliterate.models import source as source_module
from abliterate.models.loading import choose_dtype, load_model, plan_offload
from abliterate.models.source import Source, resolve
from fixtures.models import random_model
from fixtures.tiny_chat import TINY


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the empty models that are built, and the checkpoints that are asked how they are quantised."""
    counts = Counter[str]()
    build, read = source_module.build_empty, checkpoint_module.quantized_pairs

    def counted_build(*args: object) -> object:
        counts["empty"] += 1
        return build(*args)  # type: ignore[arg-type]

    def counted_read(*args: object) -> object:
        counts["quantization"] += 1
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(source_module, "build_empty", counted_build)
    monkeypatch.setattr(checkpoint_module, "quantized_pairs", counted_read)
    return counts


def test_an_empty_model_and_a_quantisation_are_looked_for_once(built: Counter[str]) -> None:
    source = resolve(str(TINY))
    assert source.empty is source.empty
    assert all(one.is_meta for one in source.empty.parameters())
    for _ in range(2):
        load_model(source)
        assert plan_offload(source, torch.bfloat16, torch.device("cpu"), None) is None
        choose_dtype(source, "auto")
        dequantized_here(source.checkpoint)
        assert quantized_weights(source.checkpoint) == quantised_tensors(source.checkpoint) == {}
    assert built == {"empty": 1, "quantization": 1}
    resolve(str(TINY)).empty  # noqa: B018
    assert built == {"empty": 2, "quantization": 2}, "another source is another model"


def test_loading_changes_nothing_of_the_empty_model(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    source = resolve(str(tmp_path))
    before = {name: one.shape for name, one in source.empty.named_parameters()}
    config = source.empty.config.to_dict()
    live = load_model(source, "float32")
    live.model.layers[0].mlp = torch.nn.Identity()
    assert {name: one.shape for name, one in source.empty.named_parameters()} == before
    assert source.empty.config.to_dict() == config


def test_a_format_that_is_not_read_is_refused_before_anything_is_built(tmp_path: Path, built: Counter[str]) -> None:
    random_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match="quantised with gptq, which is not read"):
        resolve(str(tmp_path))
    assert not built["empty"]


def test_what_cannot_be_built_says_so_each_time(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nobody-knows"}')
    source = Source(str(tmp_path), Checkpoint.open(tmp_path))
    for _ in range(2):
        with pytest.raises(InputError, match="cannot be loaded"):
            source.empty  # noqa: B018
