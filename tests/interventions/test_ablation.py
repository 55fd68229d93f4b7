"""Interventions on a live model: their algebra, where they hold, under what they hold, and that they leave no trace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError
from abliterate.interventions.ablation import ablated, ablated_rows
from abliterate.interventions.recipe import Recipe
from abliterate.proofs.stream import relative_component, streams
from fixtures.interventions import SEQUENCES, logits


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


def test_a_direction_of_another_model_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="belongs to another model"), ablated(llama, torch.ones(7)):
        pass


def test_rows_carry_their_own_strength(model: PreTrainedModel, direction: torch.Tensor) -> None:
    strengths = torch.tensor([0.0, 0.5, -1.0])
    with ablated_rows(model, direction.expand(3, 1, -1), Recipe.uniform(0.8), strengths=strengths):
        together = logits(model)
    for row, strength in enumerate(strengths.tolist()):
        with ablated(model, direction, Recipe.uniform(0.8 * strength)):
            alone = logits(model)
        assert torch.allclose(together[row], alone[row], atol=1e-4 * float(alone.abs().max()))


def test_the_hooks_are_the_models_on_whatever_thread(model: PreTrainedModel, direction: torch.Tensor) -> None:
    """As the docstring says: the one context counts for all threads until it ends, and nothing of it stays."""
    before = logits(model)
    entered, seen = Barrier(2, timeout=60), Barrier(2, timeout=60)

    def intervene() -> None:
        with ablated(model, direction):
            entered.wait()
            seen.wait()

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(intervene)
        entered.wait()
        meanwhile = pool.submit(logits, model).result(60), logits(model)
        seen.wait()
        other.result(60)
    with ablated(model, direction):
        expected = logits(model)
    assert all(torch.equal(one, expected) for one in meanwhile)
    assert not torch.allclose(expected, before, atol=1e-3)
    assert torch.equal(logits(model), before)


def test_contexts_of_two_threads_may_end_in_any_order(model: PreTrainedModel, direction: torch.Tensor) -> None:
    before = logits(model)
    first, second = ablated(model, direction), ablated(model, direction.flip(0))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with_second = logits(model)
    second.__exit__(None, None, None)
    with ablated(model, direction.flip(0)):
        assert torch.equal(with_second, logits(model))
    assert torch.equal(logits(model), before)
