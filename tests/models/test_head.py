"""The head alone says what the model says; divergence of what two models predict: of numbers, and of what is none."""

from __future__ import annotations

import math

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
