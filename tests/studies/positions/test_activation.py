"""Components token by token, against a plain forward pass."""

from __future__ import annotations

import pytest
import torch

from abliterate.models.live_model import LiveModel
from abliterate.studies.positions.activation import ALIGNED, aligned, curve_json, labels, offset_in
from abliterate.studies.positions.run import Positions


def test_the_component_at_the_prompts_end_is_that_of_a_plain_pass(tiny_live: LiveModel, small: Positions) -> None:
    found = small.tokenwise["question/1-harm"]
    heard = small.heard["question"]

    def at_end(cases: tuple[object, ...]) -> torch.Tensor:
        rows = []
        for case in cases:
            tokens = torch.tensor([case.text.tokens])  # type: ignore[attr-defined]
            with torch.no_grad():
                rows.append(
                    tiny_live.model(tokens, output_hidden_states=True).hidden_states[found.layer][0, -1].double()
                )
        return torch.stack(rows)

    mean = at_end(heard.of("harmless", "select") + heard.of("harmless", "report")).mean(0)
    vector = small.cells["question/1-harm"].vector(found.layer)
    states = at_end(heard.of("harmful", "report"))
    expected = torch.nn.functional.cosine_similarity(states - mean, vector[None])
    torch.testing.assert_close(found.harmful[:, -1], expected, atol=1e-4, rtol=1e-4)
    raw = torch.nn.functional.cosine_similarity(states, vector[None])
    torch.testing.assert_close(found.raw_harmful[:, -1], raw, atol=1e-4, rtol=1e-4)
    assert found.auroc > 0.9
    assert len(found.look_alikes) == 1
    assert found.to_json()["look_alikes_above"]["total"] == 1  # type: ignore[index]
    assert [phrase for phrase, _ in found.highest] == sorted(
        found.texts, key=lambda text: -found.ends[1][found.texts.index(text)]
    )[:10]


def test_places_outside_of_a_prompt_do_not_count(small: Positions) -> None:
    case = small.heard["question"].harmful[0]
    text = aligned(case)
    assert tuple(text.places) == labels()
    for (name, offset), place in zip(ALIGNED, text.places.values(), strict=True):
        if offset_in(case, name, offset):
            assert place == case.text.place(name) + offset
    assert not offset_in(case, "prompt_end", 1)
    assert not offset_in(case, "phrase_start", -99)


def test_curves_leave_out_what_is_not_there() -> None:
    found = curve_json(torch.tensor([[1.0, torch.nan], [3.0, 5.0]]))
    assert found["mean"] == [2.0, 5.0]
    assert found["low"][1] == 5.0
    assert found["low"][0] == pytest.approx(2 - 1.96)
    assert curve_json(torch.tensor([[torch.nan]]))["mean"] == [None]
