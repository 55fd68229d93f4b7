"""Interventions on a live model, against plain ones."""

from __future__ import annotations

import torch

from abliterate.interventions import ablated
from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.acting import Acting
from abliterate.studies.clusters.material import Material
from fixtures.planted_clusters import LAYER, SAFE


def test_log_odds_are_those_of_plain_passes(toy: tuple[LiveModel, Material, torch.Tensor]) -> None:
    live, material, refuse = toy
    acting = Acting(live, LAYER, ((SAFE,),))
    prompts = [text.tokens for text in material.harmful[:3]]
    with torch.no_grad(), ablated(live.model, refuse[1]):
        share = live.model(torch.tensor(prompts)).logits[:, -1].softmax(-1)[:, SAFE]
    found = acting.ablated(refuse[:, None], prompts)
    assert torch.allclose(found[1], (share / (1 - share)).log(), atol=1e-3)
    plain = acting.plain(prompts)
    assert torch.allclose(acting.ablated(refuse[:1, None], prompts, torch.zeros(1))[0], plain, atol=1e-3)
    assert bool((acting.added(0.5 * refuse.sum(0)[None], prompts)[0] > plain).all())


def test_divergence_grows_with_strength(toy: tuple[LiveModel, Material, torch.Tensor]) -> None:
    live, material, refuse = toy
    acting = Acting(live, LAYER, ((SAFE,),))
    prompts = [text.tokens for text in material.harmful[:4]]
    none, half, whole = (acting.divergence(refuse, prompts, strength) for strength in (0.0, 0.5, 1.0))
    assert none < 1e-6
    assert half < whole
