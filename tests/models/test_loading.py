"""Models loaded in the type that was asked for."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.loading import DTYPE_WORDS, choose_dtype, dtype_name
from abliterate.models.source import resolve
from fixtures.dtypes import KNOWN
from fixtures.tiny_chat import TINY


@pytest.mark.parametrize("word", DTYPE_WORDS)
def test_every_word_names_what_torch_calls_so(word: str) -> None:
    assert getattr(torch, dtype_name("--dtype", word)) == DTYPE_WORDS[word] == choose_dtype(resolve(str(TINY)), word)


@pytest.mark.parametrize("flag", ["--dtype", "--edited-dtype"])
@pytest.mark.parametrize("word", ["int3", "", "torch.float16", "BF16"])
def test_an_unknown_word_lists_those_that_are_known(flag: str, word: str) -> None:
    with pytest.raises(InputError) as said:
        dtype_name(flag, word)
    assert str(said.value) == f"{flag} {word}: unknown; choose {KNOWN}"
