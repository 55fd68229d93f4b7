"""A direction for each prompt, in three ways, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.storage.record_log import RecordLog
from abliterate.studies.clusters import inputs
from abliterate.studies.clusters.inputs import anchors_of, input_directions
from abliterate.studies.clusters.material import Material
from fixtures.planted_clusters import LAYER, TARGETS, planted_clusters

Toy = tuple[LiveModel, Material, torch.Tensor]


def states(live: LiveModel, material: Material) -> torch.Tensor:
    weight = live.model.get_input_embeddings().weight.detach()
    return weight[[text.tokens[-1] for text in (*material.harmful[:6], *material.harmless[:6])]]


def test_gradients_give_each_prompt_its_own_direction(toy: Toy) -> None:
    live, material, refuse = toy
    own = input_directions(live, material.harmful[:6], LAYER, targets=TARGETS)
    assert own.method == "gradient"
    assert (own.vectors @ refuse.T).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert all(one.crossed for one in own.walks)
    assert own.of([1, 4]).kept == (1, 4)
    assert len(own.of([1, 4]).walks) == 2


def test_concepts_and_activations_are_differences_of_states(toy: Toy) -> None:
    live, material, _ = toy
    harmful, calm = states(live, material).split(6)
    raw = input_directions(live, material.harmful[:6], LAYER, "activation", harmless=material.harmless[:6])
    assert torch.allclose(raw.vectors, harmful - calm.mean(0), atol=1e-4)
    matched = input_directions(live, material.harmful[:6], LAYER, "concept", harmless=material.harmless[:6])
    assert torch.allclose(matched.vectors, torch.nn.functional.normalize(harmful - calm, dim=1), atol=1e-4)
    walked = input_directions(
        live, material.harmful[:6], LAYER, "concept", harmless=material.harmless[:6], anchor="gradient", targets=TARGETS
    )
    assert walked.method == "concept"
    assert torch.allclose(walked.vectors.norm(dim=1), torch.ones(6), atol=1e-5)


def test_the_nearest_anchor_is_the_centroid_of_like_harmless_states() -> None:
    calm = torch.tensor([[0.0, 9.0], [0.0, 9.2], [9.0, 0.0], [9.2, 0.0]])
    found = anchors_of("nearest", torch.tensor([[1.0, 8.0], [8.0, 1.0]]), calm)
    assert torch.linalg.norm(found[0] - calm[:2].mean(0)) < 0.2
    assert torch.equal(anchors_of("mean", calm, calm), calm.mean(0))


def test_what_is_missing_is_said(toy: Toy) -> None:
    live, material, _ = toy
    texts = material.harmful[:2]
    for words, given in (
        ("--method magic: unknown; choose among gradient", {"method": "magic"}),
        ("--anchor none: unknown; choose among matched", {"anchor": "none"}),
        ("needs the openings that f", {}),
        ("0 harmless prompts for 2 harmful ones", {"method": "concept"}),
    ):
        with pytest.raises(InputError, match=words):
            input_directions(live, texts, LAYER, **given)  # type: ignore[arg-type]


def test_gradients_that_vanish_or_are_no_numbers_are_named() -> None:
    live, material, _ = planted_clusters(1)
    with torch.no_grad():
        live.model.lm_head.weight.zero_()
    with pytest.raises(InputError, match="layer 2: the gradients of all 4 prompts vanish; take another --layer"):
        input_directions(live, material.harmful[:4], LAYER, targets=TARGETS)
    with torch.no_grad():
        live.model.get_input_embeddings().weight[material.harmful[2].tokens[-1]] = float("nan")
    with pytest.raises(InputError, match="layer 2: the gradient of prompt 3 of 4 is NaN or infinite"):
        input_directions(live, material.harmful[:4], LAYER, targets=TARGETS)


def test_saturated_prompts_are_left_out_and_counted() -> None:
    live, material, _ = planted_clusters(1)
    place = material.harmful[1].tokens[-1]
    with torch.no_grad():
        live.model.get_input_embeddings().weight[place] *= 4
    found = input_directions(live, material.harmful[:3], LAYER, targets=TARGETS)
    assert found.dropped == {"saturated": 1}
    assert found.kept == (0, 2)


def test_walks_that_were_kept_are_not_made_again(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, material, _ = toy
    made: Counter[str] = Counter()
    whole = inputs.walks_of
    monkeypatch.setattr(inputs, "walks_of", lambda *given: made.update(["walk"]) or whole(*given))

    def once() -> torch.Tensor:
        kept = RecordLog(tmp_path / "units.jsonl")
        return input_directions(live, material.harmful[:3], LAYER, targets=TARGETS, kept=kept).vectors

    first = once()
    assert torch.equal(first, once())
    assert made["walk"] == 1, "prompts of one length walk together"
