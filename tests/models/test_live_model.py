"""A live model as one value."""

from __future__ import annotations

import pytest
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from fixtures.tiny_chat import tiny_chat


def test_a_model_of_the_callers_own_is_asked_as_its_tokenizer_says(llama: PreTrainedModel) -> None:
    chat = tiny_chat()
    live = LiveModel.of(llama, chat.tokenizer)
    assert live.model is llama
    assert live.tokenizer is live.chat.tokenizer is chat.tokenizer
    assert live.architecture == find_architecture(llama)
    assert live.chat.render("Name a river.") == chat.render("Name a river.")


def test_a_chat_format_is_taken_as_it_is(llama: PreTrainedModel) -> None:
    chat = tiny_chat()
    assert LiveModel.of(llama, chat).chat is chat


def test_a_tokenizer_without_a_template_is_refused(llama: PreTrainedModel) -> None:
    tokenizer = tiny_chat().tokenizer
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="no chat template"):
        LiveModel.of(llama, tokenizer)


@pytest.mark.parametrize("size", [0, -3])
def test_a_batch_of_nothing_is_refused(llama: PreTrainedModel, size: int) -> None:
    with pytest.raises(InputError, match=f"--batch-size {size}: "):
        LiveModel(llama, tiny_chat(), find_architecture(llama), size)
