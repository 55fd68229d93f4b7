"""What a model cannot read is named before anything runs."""

from __future__ import annotations

import pytest
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.limits import check_memory, check_readable, learned_positions
from fixtures.models import random_model


@pytest.fixture
def gpt2() -> PreTrainedModel:
    return random_model("gpt2")  # 97 tokens, 64 learned positions


def test_only_learned_positions_end(gpt2: PreTrainedModel, llama: PreTrainedModel) -> None:
    assert learned_positions(gpt2) == 64
    assert learned_positions(llama) is None


def test_a_token_above_the_embedding_is_named(llama: PreTrainedModel) -> None:
    check_readable(llama, ["a", "b"], [[1, 2], [96]], 8)
    with pytest.raises(
        InputError, match=r"the prompt 'b' has the token 97 under the chat template, and the embedding ends at 96"
    ):
        check_readable(llama, ["a", "b"], [[1, 2], [96, 97]], 8)


def test_prompt_and_reply_must_have_positions(gpt2: PreTrainedModel, llama: PreTrainedModel) -> None:
    check_readable(gpt2, ["a"], [[1] * 56], 8)
    with pytest.raises(
        InputError, match=r"the prompt 'aaa.*' takes 57 tokens and its reply up to 8; the model has 64 positions"
    ):
        check_readable(gpt2, ["a" * 99], [[1] * 57], 8)
    check_readable(llama, ["a"], [[1] * 1000], 8)


def test_a_prompt_longer_than_memory_is_named(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"the prompt 'long' takes 100000 tokens, about .* GB of activations"):
        check_memory(llama, ["short", "long"], [[1], [1] * 100_000], 1 << 20)
