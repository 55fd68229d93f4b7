"""f(Y) of one prompt, against a plain forward pass of every opening."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.margin import Margin, Scored, alike, check_exact
from abliterate.studies.clusters.openings import Targets
from fixtures.models import random_model
from fixtures.tiny_chat import tiny_chat

PROMPT, OTHER = (3, 5, 9, 11), (4, 4, 2, 6)
TARGETS = Targets(((7, 4, 2), (7, 4, 6), (7,)), ((8, 1), (3,)))


def plain(live: LiveModel, targets: Targets) -> float:
    means = []
    for side in (targets.refusal, targets.answer):
        own = []
        for opening in side:
            logits = live.model(torch.tensor([[*PROMPT, *opening]])).logits[0].log_softmax(-1)
            tokens = zip(range(len(PROMPT) - 1, len(PROMPT) + len(opening) - 1), opening, strict=True)
            own.append(sum(float(logits[place, token]) for place, token in tokens) / len(opening))
        means.append(sum(own) / len(own))
    return means[0] - means[1]


@pytest.fixture(params=["llama", "gpt2"])
def live(request: pytest.FixtureRequest) -> LiveModel:
    return LiveModel.of(random_model(request.param), tiny_chat())


def test_f_is_that_of_plain_passes_and_its_gradient_that_of_small_steps(live: LiveModel) -> None:
    margin = Margin(live, 1, [OTHER, PROMPT], TARGETS)
    with torch.no_grad():
        assert float(margin.values(margin.states)[1]) == pytest.approx(plain(live, TARGETS), abs=1e-4)
    values, gradients = margin.gradients(margin.states)
    lengths = gradients.norm(dim=1)
    ahead = 0.02 * margin.states.norm(dim=1, keepdim=True) * gradients / lengths[:, None]
    rise = margin.values(margin.states + ahead) - margin.values(margin.states - ahead)
    assert torch.allclose(values, margin.values(margin.states), atol=1e-5)
    assert torch.allclose(rise / (2 * ahead.norm(dim=1)), lengths, rtol=0.1)


def test_a_part_is_what_it_was_among_the_others(live: LiveModel) -> None:
    margin = Margin(live, 1, [OTHER, PROMPT, PROMPT[::-1]], TARGETS)
    ahead = margin.states + torch.linspace(0.1, 0.3, 3)[:, None]
    values, gradients = margin.gradients(ahead)
    own = margin.part([2, 0])
    assert torch.equal(own.states, margin.states[[2, 0]])
    for found, usual in zip(own.gradients(ahead[[2, 0]]), (values[[2, 0]], gradients[[2, 0]]), strict=True):
        assert torch.allclose(found, usual, atol=1e-5)


def test_each_beginning_is_predicted_once() -> None:
    scored = Scored.of(TARGETS)
    assert scored.contexts == ((7, 4), (8,))
    assert len(scored.rows) == 4, "the empty one, (7), (7, 4) and (8)"
    assert len(scored.tokens) == 10


def test_the_log_odds_are_of_all_refusal_openings_together(live: LiveModel) -> None:
    targets = Targets(((7,), (4,)), (), "opening")
    margin = Margin(live, 1, [OTHER, PROMPT], targets)
    with torch.no_grad():
        share = live.model(torch.tensor([PROMPT])).logits[0, -1].softmax(-1)[[4, 7]].sum()
    assert float(margin.values(margin.states)[1]) == pytest.approx(float((share / (1 - share)).log()), abs=1e-4)


def test_groups_are_of_one_length() -> None:
    groups = alike([(1, 2), (3,), (4, 5), *[(6,)] * 100], TARGETS)
    assert sorted(place for group in groups for place in group) == list(range(103))
    assert groups[0] == [0, 2]
    assert max(map(len, groups)) == 48


def test_a_model_in_few_digits_is_refused(live: LiveModel) -> None:
    live.model.to(torch.bfloat16)
    with pytest.raises(InputError, match="gradients in bfloat16 are noise"):
        Margin(live, 1, [OTHER, PROMPT], TARGETS)


def test_a_model_whose_layers_come_from_the_disk_is_refused(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abliterate.studies.upper.streaming_of", lambda model: object())
    with pytest.raises(
        InputError, match="needs gradients, and the layers of this model come from the disk; give more memory"
    ):
        check_exact(live)
