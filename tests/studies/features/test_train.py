"""Training: batches that any step can go on from, planted features found, an interrupted training ends as an uninterrupted one."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.extras import missing
from abliterate.studies.features import train as room
from abliterate.studies.features.train import Plan, batches, train

NEEDS = "sae-lens is not installed (extra features)"


def planted(features: int, wide: int, tokens: int, active: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """States that are sums of a few planted directions, and these."""
    drawn = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(features, wide, generator=drawn), dim=1)
    codes = torch.zeros(tokens, features)
    for _ in range(active):
        codes[torch.arange(tokens), torch.randint(0, features, (tokens,), generator=drawn)] = 1 + torch.rand(
            tokens, generator=drawn
        )
    return codes @ rows + 0.02 * torch.randn(tokens, wide, generator=drawn), rows


def test_every_token_comes_once_a_pass_and_a_step_knows_its_batch() -> None:
    states = torch.arange(50.0)[:, None]
    plan = Plan(4, 2, 3, 8, seed=1)
    assert plan.steps(50) == 19
    whole = torch.cat(list(islice(batches(states, plan, 2.0), 19)))[:, 0] * 2
    for epoch in range(3):
        assert sorted(whole[50 * epoch : 50 * epoch + 50].tolist()) == list(range(min(50, len(whole) - 50 * epoch)))
    assert whole[:50].tolist() != whole[50:100].tolist()
    later = next(batches(states, plan, 2.0, start=7))[:, 0] * 2
    assert torch.equal(later, whole[56:64])
    assert not torch.equal(next(batches(states, Plan(4, 2, 3, 8, seed=2), 2.0)), next(batches(states, plan, 2.0)))


def test_too_few_tokens_and_too_many_active_features_are_refused() -> None:
    with pytest.raises(InputError, match=r"300 tokens to learn 100 features from; give at least 400 .* or at most 75"):
        Plan(100, 4, 1, 8, 0).check(300)
    with pytest.raises(InputError, match="--active 9: more than the 8 features"):
        Plan(8, 9, 1, 8, 0).check(300)


@pytest.mark.skipif(not missing("features"), reason="sae-lens is installed")
def test_without_sae_lens_the_command_that_brings_it_is_told() -> None:
    with pytest.raises(
        InputError, match=r"training an SAE needs sae_lens, which is not installed: pip install .*\[features\]"
    ):
        train(torch.zeros(10, 4), Plan(2, 1, 1, 2, 0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_planted_features_are_recovered() -> None:
    pytest.importorskip("sae_lens", reason=NEEDS)
    states, rows = planted(64, 32, 20_000)
    sae = train(states, Plan(128, 4, 20, 256, 0))
    found = (sae.rows(list(range(128))) @ rows.T).max(0).values
    assert int((found >= 0.9).sum()) >= 58


@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sae_lens", reason=NEEDS)
    monkeypatch.setattr(room, "KEPT_EVERY", 5)
    states, _ = planted(12, 8, 400)
    plan = Plan(16, 2, 2, 32, seed=3)
    whole = train(states, plan)
    stopped = room.batches

    def torn(*given: object, **how: object) -> object:
        yield from islice(stopped(*given, **how), 12)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "batches", torn)
    with pytest.raises(KeyboardInterrupt):
        train(states, plan, tmp_path)
    monkeypatch.setattr(room, "batches", stopped)
    again = train(states, plan, tmp_path)
    assert torch.equal(again.decoder, whole.decoder)
    assert torch.equal(again.encode(states), whole.encode(states))
    assert torch.allclose(whole.decoder.norm(dim=1), torch.ones(16), atol=1e-5)
    assert torch.equal(train(states, plan).decoder, whole.decoder)


@pytest.mark.filterwarnings("ignore")
def test_the_scale_of_states_does_not_count() -> None:
    pytest.importorskip("sae_lens", reason=NEEDS)
    states, _ = planted(12, 8, 400)
    small, large = (train(scale * states, Plan(16, 2, 2, 32, 0)) for scale in (1.0, 64.0))
    assert torch.allclose(64 * small.encode(states), large.encode(64 * states), rtol=1e-3, atol=1e-2)
    assert large.about["unit"] == pytest.approx(64 * small.about["unit"], rel=1e-4)
    with pytest.raises(InputError, match="all states of the corpus are the same"):
        train(torch.ones(100, 8), Plan(4, 2, 1, 8, 0))
