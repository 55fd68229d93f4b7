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
        ActivationCache(tmp_path, "other weights").path([[1, 2]], (-1,), torch.float32),
    }
    assert len(paths) == 5


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
    "held", [{"resid": torch.ones(2, 2)}, {"other": torch.ones(2)}, {"resid": torch.ones(2, 4, 9, 160).half()}]
)
def test_a_cache_file_of_another_shape_is_made_anew(tmp_path: Path, held: dict[str, torch.Tensor]) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    cache = ActivationCache(tmp_path, "weights")
    first = capture(model, tokenizer, ["a", "b"], cache=cache)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    save_file(held, path)
    again = capture(model, tokenizer, ["a", "b"], cache=cache)
    assert torch.equal(first.resid, again.resid)
    assert path.read_bytes() == good
