"""Models loaded in the type that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models import loading
from abliterate.models.loading import DTYPE_WORDS, choose_dtype, dtype_name, load_model
from abliterate.models.source import resolve
from abliterate.parallel.devices import computes_in
from fixtures.dtypes import KNOWN
from fixtures.models import random_model
from fixtures.tiny_chat import TINY

CPU = torch.device("cpu")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
def test_auto_is_as_stored_where_the_processor_computes_in_that_and_float32_elsewhere(
    stored: torch.dtype, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model("llama").to(stored).save_pretrained(tmp_path)
    monkeypatch.setattr(loading, "computes_in", lambda dtype, device: native or dtype == torch.float32)
    source = resolve(str(tmp_path))
    assert load_model(source).dtype == (stored if native else torch.float32)
    assert choose_dtype(source, "auto", CPU, max_memory=1) == stored, "where float32 does not fit"


def test_float32_is_always_computed_in_and_an_accelerator_is_taken_at_its_word() -> None:
    assert computes_in(torch.float32, CPU)
    assert computes_in(torch.bfloat16, torch.device("cuda"))
    assert computes_in(torch.bfloat16, CPU) == bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@pytest.mark.parametrize("word", DTYPE_WORDS)
def test_every_word_names_what_torch_calls_so(word: str) -> None:
    assert (
        getattr(torch, dtype_name("--dtype", word)) == DTYPE_WORDS[word] == choose_dtype(resolve(str(TINY)), word, CPU)
    )


@pytest.mark.parametrize("flag", ["--dtype", "--edited-dtype"])
@pytest.mark.parametrize("word", ["int3", "", "torch.float16", "BF16"])
def test_an_unknown_word_lists_those_that_are_known(flag: str, word: str) -> None:
    with pytest.raises(InputError) as said:
        dtype_name(flag, word)
    assert str(said.value) == f"{flag} {word}: unknown; choose {KNOWN}"
