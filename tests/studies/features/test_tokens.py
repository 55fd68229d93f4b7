"""States of many tokens: those of a plain loop, without the layers above."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.interventions import added
from abliterate.models.live_model import LiveModel
from abliterate.proofs.stream import streams
from abliterate.studies.features.tokens import Span, capture_layers, capture_tokens

SPANS = [Span((3, 4, 5, 6, 7, 8), (2, 3, 5)), Span((3, 4, 5, 9), (3,)), Span((3, 4, 5, 6, 7, 8, 9, 10, 11), (2, 8))]


def plain(live: LiveModel, layer: int) -> torch.Tensor:
    rows = []
    for span in SPANS:
        found = streams(live.model, live.architecture, [list(span.tokens)])[layer]
        rows.append(found.reshape(-1, live.architecture.d_model)[list(span.places)])
    return torch.cat(rows)


@pytest.mark.parametrize("layer", [0, 3, 8])
def test_states_are_those_of_a_plain_loop(tiny_live: LiveModel, layer: int) -> None:
    found = capture_tokens(tiny_live, SPANS, layer)
    assert torch.allclose(found.states, plain(tiny_live, layer).to(found.states), atol=1e-4)
    assert found.text.tolist() == [0, 0, 0, 1, 2, 2]
    assert found.place.tolist() == [2, 3, 5, 3, 2, 8]
    assert torch.equal(found.of(1), found.states[3:4])


def test_several_layers_in_one_pass_and_none_above(tiny_live: LiveModel) -> None:
    calls = Counter[int]()
    handles = [
        tiny_live.model.get_submodule(name).register_forward_hook(lambda *_, own=number: calls.update([own]))
        for number, name in enumerate(tiny_live.architecture.layers)
    ]
    try:
        found = capture_layers(tiny_live, SPANS, [2, 4])
    finally:
        for handle in handles:
            handle.remove()
    assert torch.equal(found[4].states, capture_tokens(tiny_live, SPANS, 4).states)
    assert max(calls) == 3


def test_states_in_a_file_are_the_same(tiny_live: LiveModel, tmp_path: Path) -> None:
    mapped = capture_tokens(tiny_live, SPANS, 3, tmp_path / "states")
    assert torch.equal(mapped.states, capture_tokens(tiny_live, SPANS, 3).states)
    assert (tmp_path / "states").stat().st_size == mapped.states.numel() * 4


def test_interventions_take_part(tiny_live: LiveModel) -> None:
    vector = torch.randn(tiny_live.architecture.d_model)
    with added(tiny_live.model, vector, 2, tiny_live.architecture):
        found = capture_tokens(tiny_live, SPANS, 2)
    assert torch.allclose(found.states, plain(tiny_live, 2).to(found.states) + vector, atol=1e-4)


def test_what_cannot_be_captured_is_refused(tiny_live: LiveModel) -> None:
    with pytest.raises(InputError, match="--layer 9 is out of range"):
        capture_tokens(tiny_live, SPANS, 9)
    with pytest.raises(InputError, match="nothing to capture"):
        capture_tokens(tiny_live, [Span((3,), ())], 2)
    weight = tiny_live.model.get_input_embeddings().weight
    kept = weight.detach()[9].clone()
    try:
        weight.data[9] = torch.nan
        with pytest.raises(InputError, match=r"text 2 are NaN or infinite at resid\[2\]"):
            capture_tokens(tiny_live, SPANS[:2], 2)
    finally:
        weight.data[9] = kept
