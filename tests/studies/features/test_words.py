"""Words of texts, and the vectors that stand for them."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.words import Vocabulary, read_vocabulary, stem, vocabulary, word_vectors, words_of


def test_forms_of_a_word_are_one() -> None:
    assert len({stem(word) for word in ("warn", "warns", "warned", "warning", "warnings")}) == 1
    assert stem("policies") == stem("policy")
    assert stem("access") == "access"
    assert stem("red") == "red"


def test_words_of_korean_are_runs_of_hangul() -> None:
    assert words_of("자물쇠를 따는 법, how to!") == ["자물쇠를", "따는", "법", "how"]


def test_the_most_frequent_words_come_first_in_the_form_that_is_most_frequent() -> None:
    found = vocabulary(["Locks are fine.", "A lock", "locks, locks and keys", "keys"])
    assert found.words[:2] == ("locks", "keys")
    assert found.counts[:2] == (3, 2)
    assert len(vocabulary(["one two three four"], 2)) == 2


def test_texts_hold_words_in_any_form() -> None:
    words = vocabulary(["lock the key", "keys"])
    held = words.held(["Two KEYS.", "A padlock", "locked"])
    assert held[:, words.places["key"]].tolist() == [1, 0, 0]
    assert held[:, words.places["lock"]].tolist() == [0, 0, 1]


def test_words_outside_of_the_vocabulary_are_listed() -> None:
    words = vocabulary(["lock the key"])
    assert words.of(["Keys", "key", "lock"]) == [words.places["key"], words.places["lock"]]
    with pytest.raises(InputError, match="boat, plane: not among the 3 words"):
        words.of(["boat", "lock", "plane"])


def test_a_list_of_words_is_counted_in_the_texts() -> None:
    found = read_vocabulary("boats\nkey boat\n", ["Keys", "the key", "a boat"])
    assert found == Vocabulary(("key", "boats"), (2, 1))
    with pytest.raises(InputError, match="1 words explains nothing"):
        read_vocabulary("boat", [])


def test_a_word_is_the_mean_of_its_tokens_in_the_output_embedding(tiny_live: LiveModel) -> None:
    words = vocabulary(["I cannot refuse extraordinarily"])
    vectors = word_vectors(tiny_live, words)
    matrix = tiny_live.model.get_output_embeddings().weight.detach()
    for word, vector in zip(words.words, vectors, strict=True):
        ids = tiny_live.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        assert torch.allclose(vector, matrix[ids].mean(0), atol=1e-6)
