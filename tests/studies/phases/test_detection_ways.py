"""Ways to a safety vector, on a model whose safety direction is known."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.studies.phases.attribution import (
    Neurons,
    attributed,
    concentration,
    integrated,
    kept_score,
    vector_of,
)
from abliterate.studies.phases.forward import Targets, forward
from abliterate.studies.phases.optimised import Optimising, optimised
from abliterate.studies.phases.upper import Upper

from .conftest import SAFE

PROMPTS = [(3, 5, 9), (4, 8, 11, 12), (21, 5), (30, 31, 32, 33, 34), (40, 6, 2), (50, 51, 52), (60, 61), (70, 71, 72)]


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=0))


def test_the_optimised_vector_is_the_planted_one(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, direction = planted
    found = optimised(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), (), Optimising(steps=200))
    assert cosine(found.vector, direction) >= 0.95
    assert found.after > found.before
    quick = optimised(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), PROMPTS[:2])
    assert cosine(quick.vector, direction) > 0.5
    assert quick.divergence > 0


def test_layers_below_do_not_run_and_are_put_back(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _ = planted
    torch.nn.init.normal_(live.model.model.layers[0].mlp.down_proj.weight)
    torch.nn.init.normal_(live.model.model.layers[3].self_attn.o_proj.weight)
    upper = Upper(live, 2, PROMPTS)
    whole = upper.final
    ran: list[int] = []
    handle = live.model.model.layers[1].mlp.register_forward_hook(lambda *_: ran.append(1))
    again = upper.hidden(torch.zeros(64), upper.batch.lengths - 1)
    assert not ran
    handle.remove()
    assert torch.allclose(again, whole, atol=1e-5)
    assert torch.allclose(Upper(live, 2, PROMPTS).final, whole)


def test_a_shift_is_the_addition_at_that_token(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, direction = planted
    upper = Upper(live, 2, PROMPTS[:1])
    moved = upper.hidden(10 * direction, torch.tensor([1]))
    assert torch.allclose(moved[0, [0, 2]], upper.final[0, [0, 2]], atol=1e-6)
    assert not torch.allclose(moved[0, 1], upper.final[0, 1])


def test_no_prompts_are_refused_and_no_gradient_too(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _ = planted
    with pytest.raises(InputError, match="0 prompts with 0 safe continuations"):
        optimised(live, 2, [], [], [])
    with torch.no_grad():
        live.model.lm_head.weight.zero_()
    with pytest.raises(InputError, match="layer 2: the gradient"):
        optimised(live, 2, PROMPTS, [(SAFE,)] * len(PROMPTS), ())


def test_reading_the_same_reply_twice_gives_nothing(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _ = planted
    text = Text((3, 5, 9), {"prompt_end": 2})
    assert not forward(live, 2, [Targets(text, (11, 12, 13), (11, 12, 13))]).any()
    found = forward(live, 2, [Targets(text, (11, 12, 13, 14), (11, 22, 23))])
    rows = live.model.model.embed_tokens.weight.double()
    expected = rows[[12, 13]].mean(0) - rows[[22, 23]].mean(0)
    assert torch.allclose(found, expected, atol=1e-6)
    with pytest.raises(InputError, match="no prompt has both"):
        forward(live, 2, [Targets(text, (11,), (12, 13))])


def test_integrated_gradients_sum_to_the_change(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _direction = planted
    for layer in live.model.model.layers:
        torch.nn.init.normal_(layer.mlp.down_proj.weight, std=0.3)
    neurons = Neurons.of(live)
    calm = neurons.activations(PROMPTS[4:])
    _, check = integrated(neurons, PROMPTS[:4], calm, [SAFE])
    assert check.error <= 0.05
    total = attributed(neurons, PROMPTS[:4], calm, [SAFE]).total
    assert len(total) == 4 * 48
    vector = vector_of(neurons, total, torch.ones_like(total), 2, 10_000)
    written = sum(live.model.model.layers[layer].mlp.down_proj.weight.double().sum(1) for layer in (0, 1))
    assert torch.allclose(vector, written)
    with pytest.raises(InputError, match="no neuron below layer 0"):
        vector_of(neurons, total, torch.ones_like(total), 0, 10)
    left = kept_score(neurons, PROMPTS[:4], calm, [SAFE])
    assert left([]) == pytest.approx(1.0)
    assert left(range(len(total))) == pytest.approx(0.0, abs=1e-5)


def test_concentration_knows_one_neuron_and_many() -> None:
    assert concentration(torch.eye(100)[3]).half == 1
    even = concentration(torch.ones(100))
    assert even.half == 50
    assert even.gini == pytest.approx(0.0)
    assert even.participation == pytest.approx(100)
