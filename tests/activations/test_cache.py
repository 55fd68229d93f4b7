"""The cache of activations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.activations.cache import ActivationCache
from abliterate.activations.capture import capture
from fixtures.tiny_chat import TINY


def test_the_cache_is_addressed_by_all_that_matters(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path, "weights")
    paths = {
        cache.path([[1, 2]], (-1,), torch.float32),
        cache.path([[1, 3]], (-1,), torch.float32),
        cache.path([[1, 2]], (-2,), torch.float32),
        cache.path([[1, 2]], (-1,), torch.bfloat16),
        cache.path([[1, 2]], (-1,), torch.float32, 16),
        cache.path([[1, 2]], (-1,), torch.float32, "auto", "cuda"),
        ActivationCache(tmp_path, "other weights").path([[1, 2]], (-1,), torch.float32),
    }
    assert len(paths) == 7


def test_a_damaged_cache_file_is_made_anew(tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    cache = ActivationCache(tmp_path, "weights")
    first = capture(model, tokenizer, ["a", "b"], cache=cache)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    again = capture(model, tokenizer, ["a", "b"], cache=cache)
    assert torch.equal(first.resid, again.resid)
    assert path.stat().st_size > 100


@pytest.mark.parametrize(
    "other",
    [
        {"resid": torch.ones(2, 2)},
        {"resid": torch.ones(2, 4, 9, 160, dtype=torch.float64)},
        {"resid": torch.full((2, 4, 9, 160), float("nan"), dtype=torch.bfloat16)},
        {"something": torch.ones(2, 4, 9, 160, dtype=torch.bfloat16)},
    ],
    ids=["shape", "dtype", "NaN", "name"],
)
def test_a_cache_file_of_something_else_is_made_anew(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    cache = ActivationCache(tmp_path, "weights")
    first = capture(model, tokenizer, ["a", "b"], cache=cache)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    save_file(other, path)
    assert torch.equal(capture(model, tokenizer, ["a", "b"], cache=cache).resid, first.resid)
    assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_one_warning(tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    (tmp_path / "file").touch()
    alone = capture(model, tokenizer, ["a", "b"])
    with pytest.warns(UserWarning, match="activations could not be kept in .*file"):
        captured = capture(model, tokenizer, ["a", "b"], cache=ActivationCache(tmp_path / "file", "weights"))
    assert torch.equal(captured.resid, alone.resid)
    cache = ActivationCache(tmp_path / "folders", "weights")
    capture(model, tokenizer, ["a", "b"], cache=cache)
    (path,) = cache.folder.iterdir()
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match="activations could not be kept in .*folders"):
        captured = capture(model, tokenizer, ["a", "b"], cache=cache)
    assert torch.equal(captured.resid, alone.resid)
