"""What is seen of a model: its replies, and the states that predict each token of them."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from abliterate.evaluation.observation import Observation, Reply, observe, states_along
from abliterate.models.generation import generate
from abliterate.prompts.splits import Asked, Report
from fixtures.tiny_chat import TINY

PROMPTS = [[5, 9, 33], [7, 60, 2, 41, 8], [11]]


def test_a_reply_opens_as_a_refusal_or_does_not() -> None:
    assert Reply("p", (1, 2), "I'm sorry, but I can't help with that.").refused
    assert not Reply("p", (1, 2), "Mix flour and water.").refused


def test_a_served_reply_is_as_long_as_its_server_says() -> None:
    assert Reply("p", (1, 2, 3), "a b c").length == 3
    assert Reply("p", (), "a b c", served=True, served_tokens=7).length == 7
    assert Reply("p", (), "a b c", served=True).length is None


def test_states_along_a_reply_predict_its_tokens(llama: PreTrainedModel) -> None:
    replies = [Reply("", tuple(tokens), "") for tokens in ([4, 8, 15], [16], [])]
    states = states_along(llama, PROMPTS, replies, 2, None, _silent())
    assert [len(one) for one in states] == [3, 1, 1]  # an empty reply still has a first token that was predicted
    for prompt, reply, found in zip(PROMPTS, replies, states, strict=True):
        with torch.no_grad():
            logits = llama(torch.tensor([[*prompt, *reply.tokens]])).logits[0]
        expected = logits[len(prompt) - 1 :][: len(found)]
        assert torch.allclose(llama.lm_head(found), expected, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
def test_an_observation_is_what_the_model_says(llama: PreTrainedModel, size: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    report = Report(Asked(("a", "b"), PROMPTS[:2]), Asked(("c",), PROMPTS[2:]))
    seen = observe(llama, tokenizer, report, max_new_tokens=6, batch_size=size)
    expected = generate(llama, tokenizer, PROMPTS, 6)
    assert [list(reply.tokens) for reply in (*seen.harmful, *seen.harmless)] == expected
    assert [reply.text for reply in seen.harmful] == tokenizer.batch_decode(expected[:2])
    assert seen.look_alikes == ()
    assert len(seen.states) == 1


def test_rates_are_of_their_own_side(llama: PreTrainedModel) -> None:
    no, yes = Reply("p", (1,), "I'm sorry, but I can't do that."), Reply("p", (1,), "Sure.")
    seen = Observation((no, no, yes), (yes, no), (), _head(llama))
    assert (seen.harmful_refusals.count, seen.harmful_refusals.total) == (2, 3)
    assert (seen.harmless_refusals.count, seen.harmless_refusals.total) == (1, 2)
    assert seen.to_json()["harmful_refusals"] == seen.harmful_refusals.to_json()


def _silent() -> object:
    from abliterate.progress import SILENT

    return SILENT


def _head(model: PreTrainedModel) -> object:
    from abliterate.models.head import Head

    return Head(model)
