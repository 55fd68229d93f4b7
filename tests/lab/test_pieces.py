"""The pieces of a text are its tokens' and the whole text, nothing lost between them."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from abliterate.lab.pieces import pieces
from fixtures.tiny_chat import TINY


@pytest.mark.parametrize("text", ["<|user|>\nHow do I decorate a shed?<|end|>\n", "I'm sorry,  but", ""])
def test_pieces_make_the_text(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = pieces(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == tokenizer.decode(ids)


def test_a_character_of_several_tokens_is_the_last_ones() -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=whole)
    ids = tokenizer("a é😀", add_special_tokens=False)["input_ids"]
    assert pieces(tokenizer, ids) == ["a", " ", "", "é", "", "", "", "😀"]
    assert pieces(tokenizer, ids[:-1])[-1] == "\ufffd"  # cut at --max-new-tokens
