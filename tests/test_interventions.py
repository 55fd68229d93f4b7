from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architecture import find_architecture
from abliterate.edit import orthogonalize
from abliterate.errors import InputError
from abliterate.interventions import ablated, ablated_rows, added
from abliterate.recipe import Recipe
from abliterate.verify import relative_component, streams

SEQUENCES = [[3, 14, 15, 9, 26], [5, 35, 8, 9, 79, 32, 38], [4, 6]]


def logits(model: PreTrainedModel, rows: int = 3) -> torch.Tensor:
    tokens = torch.arange(5, 5 + 6 * rows).reshape(rows, 6)
    with torch.no_grad():
        return model(tokens).logits


def test_ablation_silences_the_stream_of_every_family(model: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture = find_architecture(model)
    assert max(relative_component(model, architecture, direction[None], SEQUENCES)) > 1e-2
    with ablated(model, direction):
        assert max(relative_component(model, architecture, direction[None], SEQUENCES)) < 1e-6


@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
def test_hook_form_equals_weight_form(model: PreTrainedModel, direction: torch.Tensor, strength: float) -> None:
    recipe = Recipe.uniform(strength)
    with ablated(model, direction, recipe):
        hooked = logits(model)
    assert float((hooked - logits(model)).abs().max()) > 1e-2
    edited = logits(orthogonalize(model, direction, recipe))
    assert torch.allclose(hooked, edited, atol=1e-3 * float(edited.abs().max()))


@pytest.mark.parametrize("sites", [("embed",), ("attn",), ("mlp",), ("attn", "mlp")])
def test_sites_are_edited_alone(model: PreTrainedModel, direction: torch.Tensor, sites: tuple[str, ...]) -> None:
    recipe = Recipe.uniform(1.0, sites)
    with ablated(model, direction, recipe):
        hooked = streams(model, find_architecture(model), SEQUENCES)
    own = streams(orthogonalize(model, direction, recipe), find_architecture(model), SEQUENCES)
    assert all(torch.allclose(a, b, atol=1e-3 * float(b.abs().max())) for a, b in zip(hooked, own, strict=True))


def test_strength_per_layer_reaches_its_layer_only(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    orthogonalize(llama, direction, Recipe({"mlp": (0.0, 0.0, 1.0, 0.0)}))
    changed = {name for name, tensor in llama.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"model.layers.2.mlp.down_proj.weight"}


def test_a_module_that_layers_share_is_edited_once(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    llama.model.layers[2].mlp = llama.model.layers[1].mlp
    recipe = Recipe.uniform(0.5)
    with ablated(llama, direction, recipe):
        hooked = logits(llama)
    assert torch.allclose(
        hooked, logits(orthogonalize(llama, direction, recipe)), atol=1e-3 * float(hooked.abs().max())
    )


def test_rows_carry_their_own_direction(model: PreTrainedModel) -> None:
    bases = torch.nn.functional.normalize(torch.randn(3, 1, 48), dim=-1)
    with ablated_rows(model, bases):
        together = logits(model)
    for row in range(3):
        with ablated(model, bases[row]):
            alone = logits(model)
        assert torch.allclose(together[row], alone[row], atol=1e-4 * float(alone.abs().max()))


def test_nothing_is_left_behind_even_after_an_exception(model: PreTrainedModel, direction: torch.Tensor) -> None:
    before = logits(model)
    with pytest.raises(ZeroDivisionError), ablated(model, direction), added(model, direction, 1):
        1 / 0  # noqa: B018
    assert torch.equal(logits(model), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_addition_shifts_the_stream_from_its_layer_on(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture = find_architecture(llama)
    before = streams(llama, architecture, SEQUENCES)
    with added(llama, 3 * direction, 2):
        after = streams(llama, architecture, SEQUENCES)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.allclose(after[2] - before[2], (3 * direction).expand_as(before[2]), atol=1e-5)
    assert not torch.allclose(after[3], before[3] + 3 * direction, atol=1e-3)


def test_a_direction_of_another_model_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="belongs to another model"), ablated(llama, torch.ones(7)):
        pass


def test_a_layer_out_of_range_is_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    with pytest.raises(InputError, match="out of range"), added(llama, direction, 4):
        pass
