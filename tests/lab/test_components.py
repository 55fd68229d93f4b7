"""Components along a direction: shares of the stream, those of a capture, and nothing where the edit removes them."""

from __future__ import annotations

import pytest
import torch

from abliterate.activations.capture import capture
from abliterate.chat.sides import ChatSides
from abliterate.errors import InputError
from abliterate.lab.components import components, relative_component
from fixtures.chat import BAD


def test_a_share_of_the_stream() -> None:
    basis = torch.eye(4)[:1]
    stream = torch.tensor([[2.0, 0, 0, 0], [-3, 0, 0, 0], [0, 5, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]])
    expected = torch.tensor([1.0, -1, 0, 0.6, 0])
    assert torch.allclose(relative_component(stream, basis), expected)
    assert torch.allclose(relative_component(1e3 * stream, basis), expected)
    assert torch.allclose(relative_component(stream, torch.eye(4)[:2]), torch.tensor([1.0, 1, 1, 1, 0]))


def test_it_is_that_of_a_capture_and_silent_under_the_edit(sides: ChatSides) -> None:
    original, edited = sides.sides
    edit = edited.edit
    assert edit is not None
    (ids,) = original.chat.encode([BAD])
    found = components(original, edit.architecture, ids, edit.basis)
    resid = capture(original.model, original.chat, [BAD], positions=[-1]).resid[0, 0].float()
    assert torch.allclose(found[:, -1], relative_component(resid, edit.basis), atol=1e-5)
    assert found.shape == (edit.architecture.depth + 1, len(ids))
    assert found.abs().max() > 0.1
    assert components(edited, edit.architecture, ids, edit.basis).abs().max() < 1e-4


def test_a_stream_that_is_no_number_is_refused(sides: ChatSides) -> None:
    original, edited = sides.sides
    edit = edited.edit
    assert edit is not None
    broken = original.model.get_submodule("model.layers.3").register_forward_hook(
        lambda one, given, made: made * torch.nan
    )
    with broken, pytest.raises(InputError, match="NaN or infinite"):
        components(original, edit.architecture, [3, 4, 5], edit.basis)
