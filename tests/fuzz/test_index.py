"""The index of a checkpoint of several shards: which tensor lies in which file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.storage.names import INDEX
from fixtures.checkpoints import tensor_bytes, write_checkpoint
from fixtures.mutations import fuzz, mutated_json, outcome, scratch

SHARDS = (
    {"model.embed_tokens.weight": torch.arange(6.0).reshape(2, 3), "model.norm.weight": torch.arange(3.0)},
    {"lm_head.weight": torch.arange(8.0, 14.0).reshape(2, 3)},
)
FILES = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
VALID = {
    "metadata": {"total_size": 60},
    "weight_map": {name: file for file, tensors in zip(FILES, SHARDS, strict=True) for name in tensors},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("index") / "model", *SHARDS)


@fuzz
@given(content=mutated_json(VALID))
def test_any_index_is_refused_or_gives_the_tensors_of_its_files(made: Path, content: bytes) -> None:
    with scratch() as folder:
        for file in FILES:
            (folder / file).symlink_to(made / file)
        (folder / "config.json").write_text("{}")
        (folder / INDEX).write_bytes(content)
        checkpoint = outcome(lambda: Checkpoint.open(folder))
        if checkpoint is None:
            return
        known = {name: tensor for tensors in SHARDS for name, tensor in tensors.items()}
        for name in checkpoint.tensors:
            assert tensor_bytes(checkpoint.read(name)) == tensor_bytes(known[name])
        listed = json.loads(content)["weight_map"].values()
        assert checkpoint.tensors.keys() == {
            name for file, tensors in zip(FILES, SHARDS, strict=True) if file in listed for name in tensors
        }
        assert all(len(oddity.splitlines()) == 1 for oddity in checkpoint.oddities)
        checkpoint.fingerprint()
        assert [str(path) for path in checkpoint.files()] == ["config.json", INDEX]
        assert {str(path) for path in checkpoint.left_behind()} <= set(FILES)
