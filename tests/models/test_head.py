"""The head alone says what the model says; divergence of what two models predict: of numbers, and of what is none."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from torch import Tensor

from abliterate.errors import InputError
from abliterate.models.head import Head, check_numbers, kl_divergence
from fixtures.models import FAMILIES, random_model


def log_probs(*logits: float) -> Tensor:
    return torch.tensor([logits]).log_softmax(-1)


def test_divergence_is_the_sum_of_the_definition() -> None:
    original, edited = log_probs(1.0, 2.0, -3.0), log_probs(0.0, 2.5, 1.0)
    p, q = original[0].exp().tolist(), edited[0].exp().tolist()
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(kl_divergence(original, edited)) == pytest.approx(expected, rel=1e-5)
    assert float(kl_divergence(original, original)) == 0


@pytest.mark.parametrize("edited", [-math.inf, -5.0])
def test_a_token_that_the_original_cannot_say_adds_nothing(edited: float) -> None:
    original = log_probs(1.0, 2.0, -math.inf)
    other = torch.cat([log_probs(0.5, 2.0), torch.tensor([[edited]])], dim=1).requires_grad_()
    found = kl_divergence(original, other)
    assert torch.allclose(found, kl_divergence(original[:, :2], other[:, :2]))
    (gradient,) = torch.autograd.grad(found.sum(), other)
    assert torch.allclose(gradient, -original.exp())


@pytest.mark.parametrize("likely", [0.0, -200.0])
def test_a_token_that_only_the_edited_model_cannot_say_is_infinitely_far(likely: float) -> None:
    """Also where its probability is 0 in float32: the logits of a model do not come to be -inf by themselves."""
    assert float(kl_divergence(log_probs(1.0, likely), log_probs(1.0, -math.inf))) == math.inf


@pytest.mark.parametrize("broken", [(math.nan, 1.0, 2.0), (math.inf, 1.0, 2.0), (-math.inf,) * 3])
def test_what_is_no_number_is_no_divergence_of_zero(broken: tuple[float, ...]) -> None:
    whole = log_probs(1.0, 2.0, 3.0)
    for pair in ((whole, log_probs(*broken)), (log_probs(*broken), whole), (log_probs(*broken),) * 2):
        assert math.isnan(float(kl_divergence(*pair)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_prompt_is_named(value: float) -> None:
    check_numbers(torch.zeros(3, 2))
    values = torch.zeros(3, 2).index_put((torch.tensor(1), torch.tensor(0)), torch.tensor(value))
    with pytest.raises(
        InputError, match=r"^harmless prompt 2: the model's logits are NaN or infinite; try --dtype float32"
    ):
        check_numbers(values, "harmless prompt {}".format)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_alone_predicts_what_the_model_does(family: str, dtype: torch.dtype) -> None:
    model = random_model(family).to(dtype)
    tokens = torch.tensor([[11, 12, 13, 20, 21]])
    with torch.inference_mode():
        hidden = model.get_decoder()(tokens).last_hidden_state[0]
        whole = model(tokens).logits[0].float().log_softmax(-1)
    alone = Head(model).log_probs(hidden)
    assert alone.dtype == torch.float32
    # The products are the same, of one row at a time: a few steps of the weights' precision lie between.
    torch.testing.assert_close(alone, whole, rtol=0, atol=8 * torch.finfo(dtype).eps * float(whole.abs().max()))


def test_kl_is_zero_of_itself_and_right_for_known_odds() -> None:
    p = torch.tensor([[0.5, 0.5]]).log()
    q = torch.tensor([[0.25, 0.75]]).log()
    assert float(kl_divergence(p, p)) == 0
    expected = 0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(0.5 / 0.75).log()
    assert float(kl_divergence(p, q)) == pytest.approx(float(expected))


def test_kl_survives_impossible_tokens() -> None:
    p = torch.tensor([[0.0, -torch.inf]])
    assert float(kl_divergence(p, p)) == 0


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_head_is_the_models_own(family: str) -> None:
    changes = {"final_logit_softcapping": 3.0} if family == "gemma3_text" else {}
    model = random_model(family, **changes)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = model(tokens).logits[0].log_softmax(-1)
        hidden = model.base_model(tokens)[0][0]
    head = Head(model)
    assert torch.allclose(head.log_probs(hidden), expected, atol=1e-5)
    assert torch.allclose(model(tokens).logits[0].log_softmax(-1), expected, atol=1e-5)  # the model still works


def test_head_keeps_nothing_but_the_head_alive() -> None:
    import gc
    import weakref

    model = random_model("llama", tie_word_embeddings=False)
    layer = weakref.ref(model.model.layers[0].mlp.down_proj.weight)
    head = Head(model)
    del model
    gc.collect()
    assert layer() is None
    assert head.log_probs(torch.randn(2, 48)).shape == (2, 97)


def test_what_a_head_was_given_goes_with_its_answer() -> None:
    model = random_model("llama")
    head = Head(model)
    hidden = torch.randn(3, model.config.hidden_size, requires_grad=True) * 2
    there = weakref.ref(hidden)
    gc.disable()
    try:
        answer = head.log_probs(hidden, gradient=True)
        assert answer.requires_grad
        del hidden, answer, head
        assert there() is None
    finally:
        gc.enable()
