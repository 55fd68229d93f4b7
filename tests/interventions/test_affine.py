"""Setting the component along a direction, and the component that prompts have on average."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.activations.capture import Activations
from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError
from abliterate.interventions.affine import affine, mean_component
from abliterate.projection import project_out
from abliterate.proofs.stream import streams
from fixtures.interventions import SEQUENCES, logits, padded

LENGTHS = [len(one) for one in SEQUENCES]


def test_the_component_behind_affine_is_its_target(model: PreTrainedModel, direction: torch.Tensor) -> None:
    target = torch.tensor([0.0, -2.0, 5.0, 0.5, 3.0])
    with affine(model, 7 * direction, target):  # its length does not count
        for layer, stream in enumerate(streams(model, find_architecture(model), SEQUENCES)):
            along = stream @ direction
            assert torch.allclose(along, target[layer].expand_as(along), atol=1e-5 * float(stream.norm(dim=-1).max()))


def test_affine_leaves_all_else(model: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture = find_architecture(model)
    before = streams(model, architecture, SEQUENCES)
    with affine(model, direction, 3.0, [2]):
        after = streams(model, architecture, SEQUENCES)
    assert all(torch.equal(one, other) for one, other in zip(before[:2], after[:2], strict=True))
    rest = project_out(before[2], direction)
    assert torch.allclose(project_out(after[2], direction), rest, atol=1e-5 * float(rest.abs().max()))


def test_affine_to_zero_removes_the_component(model: PreTrainedModel, direction: torch.Tensor) -> None:
    """At the same places, which are written out here: nothing of the package is in the second pass."""
    names = find_architecture(model).layers

    def remove(stream: torch.Tensor) -> torch.Tensor:
        return stream - (stream @ direction)[..., None] * direction

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (remove(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": remove(kwargs["hidden_states"])}

    def after(module: Any, args: Any, output: Any) -> Any:
        return (remove(output[0]), *output[1:]) if isinstance(output, tuple) else remove(output)

    with affine(model, direction, 0.0):
        found = logits(model)
    with ExitStack() as hooks:
        for name in names:
            layer = model.get_submodule(name)
            hooks.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
        hooks.callback(model.get_submodule(names[-1]).register_forward_hook(after).remove)
        assert torch.allclose(found, logits(model), atol=1e-4 * float(found.abs().max()))


def test_affine_to_the_own_component_is_identity(model: PreTrainedModel, direction: torch.Tensor) -> None:
    tokens = [[3], [35], [6]]
    own = torch.stack(streams(model, find_architecture(model), tokens), dim=1) @ direction
    with torch.no_grad():
        before = model(torch.tensor(tokens)).logits
        with affine(model, direction, own):
            after = model(torch.tensor(tokens)).logits
        with affine(model, direction, own + 1):
            assert not torch.allclose(model(torch.tensor(tokens)).logits, before, atol=1e-2)
    assert torch.allclose(after, before, atol=1e-4 * float(before.abs().max()))


def test_the_mean_component_is_that_of_the_activations(direction: torch.Tensor) -> None:
    resid = torch.randn(6, 2, 5, 48)
    activations = Activations(resid, (-3, -1))
    assert torch.allclose(mean_component(activations, 2 * direction), (resid[:, 1] @ direction).mean(0), atol=1e-6)
    assert torch.allclose(mean_component(activations, direction, -3), (resid[:, 0] @ direction).mean(0), atol=1e-6)
    with pytest.raises(InputError, match="position -2 was not captured; there are -3, -1"):
        mean_component(activations, direction, -2)
    with pytest.raises(InputError, match="belongs to another model"):
        mean_component(activations, torch.ones(7))


def test_rows_carry_their_own_target(model: PreTrainedModel) -> None:
    directions, targets = torch.randn(3, 48), torch.randn(3, 5)
    with affine(model, directions, targets):
        together = logits(model)
    for row in range(3):
        with affine(model, directions[row], targets[row]):
            alone = logits(model)
        assert torch.allclose(together[row], alone[row], atol=1e-4 * float(alone.abs().max()))


def test_several_replies_to_a_prompt_share_its_row(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    how = {"max_new_tokens": 5, "num_beams": 2, "num_return_sequences": 2, "do_sample": False, "pad_token_id": 0}
    with affine(llama, direction, torch.tensor([[4.0], [-4.0], [1.0]]).expand(3, 5)):
        together = llama.generate(**padded("left"), **how)
    for row, target in enumerate([4.0, -4.0, 1.0]):
        with affine(llama, direction, target):
            alone = llama.generate(torch.tensor([SEQUENCES[row]]), **how)
        size = min(alone.shape[1] - LENGTHS[row], together.shape[1] - 7)
        given = together[2 * row : 2 * row + 2, 7 : 7 + size]
        assert torch.equal(given, alone[:, LENGTHS[row] :][:, :size])
