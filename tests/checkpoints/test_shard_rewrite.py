"""Shards with a new header: whatever the sizes, the safetensors library reads them; all other tensors keep their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.shard_rewrite import Replacement, rewrite_shard
from abliterate.errors import CheckpointError
from fixtures.checkpoints import write_checkpoint

DTYPES = [torch.uint8, torch.float8_e4m3fn, torch.bfloat16, torch.float32]


def rewritten(folder: Path, tensors: dict[str, Tensor], replace: dict[str, Replacement | None]) -> dict[str, Tensor]:
    source = Checkpoint.open(write_checkpoint(folder, tensors, metadata={"format": "pt"}))
    shard = source.shards[0]
    target = folder / "new.safetensors"
    rewrite_shard(source.path(shard.name), shard, target, replace, lambda count: None)
    read: dict[str, Tensor] = load_file(target)
    return read


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=2, max_size=6), st.integers(1, 9))
def test_any_sizes_are_read_again(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int]], size: int
) -> None:
    tensors = {f"t{n}": torch.arange(count).to(DTYPES[dtype]) for n, (dtype, count) in enumerate(drawn)}
    new = torch.linspace(-1, 1, size).bfloat16()
    replace = {"t0": Replacement("new", "BF16", (size,), lambda: new), "t1": None}
    found = rewritten(tmp_path_factory.mktemp("shard"), tensors, replace)
    assert set(found) == {"new", *tensors} - {"t0", "t1"}
    assert torch.equal(found.pop("new"), new)
    for name, tensor in found.items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor.view(torch.uint8), tensors[name].view(torch.uint8))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (torch.ones(3), r"was edited to torch.float32 \[3\]; expected BF16 \[2\]"),
        (torch.tensor([1.0, torch.inf]).bfloat16(), "holds NaN or infinity after the edit"),
    ],
)
def test_what_is_not_as_said_leaves_no_file(tmp_path: Path, made: Tensor, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        rewritten(tmp_path, {"a": torch.ones(2)}, {"a": Replacement("a", "BF16", (2,), lambda: made)})
    assert not (tmp_path / "new.safetensors").exists()
