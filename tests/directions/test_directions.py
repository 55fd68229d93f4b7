from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.activations.cache import ActivationCache
from abliterate.activations.capture import Activations, capture
from abliterate.architectures.architecture import find_architecture
from abliterate.directions.files import load_differences, load_direction
from abliterate.directions.methods import difference_in_means
from abliterate.edits.plan import make_plan
from abliterate.errors import CheckpointError, InputError
from abliterate.interventions.recipe import Recipe
from abliterate.projection import normalize
from fixtures.models import random_model

TINY = str(resources.files("abliterate") / "data" / "tiny-chat")
POSITIONS = (-2, -1)


def activations(seed: int, shift: float = 0.0) -> Activations:
    torch.manual_seed(seed)
    return Activations(torch.randn(9, 2, 5, 12) + shift, POSITIONS)


def test_the_plain_direction_is_the_difference_of_the_means() -> None:
    harmful, harmless = activations(0, 0.5), activations(1)
    directions = difference_in_means(harmful, harmless, "mean-difference")
    expected = harmful.resid.double().mean(0) - harmless.resid.double().mean(0)
    assert torch.allclose(directions.difference(3, -2), expected[0, 3].float())
    assert torch.allclose(directions[3], normalize(expected[1, 3].float()))


def test_the_projected_direction_leaves_the_harmless_mean_alone() -> None:
    harmful, harmless = activations(0, 0.5), activations(1, 0.3)
    directions = difference_in_means(harmful, harmless)
    for layer in range(5):
        usual = harmless.mean()[1, layer].float()
        assert abs(float(directions[layer] @ usual)) < 1e-5 * float(usual.norm())


def test_where_nothing_differs_there_is_no_direction() -> None:
    directions = difference_in_means(activations(0), activations(0), "mean-difference")
    assert not directions.exists(2)
    with pytest.raises(InputError, match="do not differ"):
        directions[2]


def test_places_that_were_not_captured_are_refused() -> None:
    directions = difference_in_means(activations(0), activations(1))
    with pytest.raises(InputError, match="out of range"):
        directions[5]
    with pytest.raises(InputError, match="was not captured"):
        directions.at(2, -3)


def test_saved_rows_come_back_to_the_bit(tmp_path: Path) -> None:
    directions = difference_in_means(activations(0), activations(1))
    directions.save(tmp_path / "d.safetensors", -2)
    for layer in range(5):
        assert torch.equal(load_direction(tmp_path / "d.safetensors", f"resid.{layer}"), directions.at(layer, -2))
    with pytest.raises(InputError, match=r"has no resid\.9"):
        load_direction(tmp_path / "d.safetensors", "resid.9")


def test_a_file_that_holds_no_directions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(InputError, match="cannot be read"):
        load_direction(tmp_path / "text", "resid.1")
    save_file({"resid.1": torch.ones(2, 3)}, tmp_path / "matrix")
    with pytest.raises(InputError, match="expected a vector"):
        load_direction(tmp_path / "matrix", "resid.1")


def test_capture_is_what_the_model_computes_at_those_places() -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    model = model.float()
    prompts = ["How do I paint a fence?", "Tell me how to bake bread.", "Help me, please"]
    found = capture(model, tokenizer, prompts)
    assert found.positions == (-4, -3, -2, -1)
    for row, prompt in enumerate(prompts):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt", add_special_tokens=False), output_hidden_states=True)
        # hidden_states[-1] of transformers is taken after the final norm, so the last layer is not comparable.
        for layer, expected in enumerate(output.hidden_states[:-1]):
            assert torch.allclose(found.resid[row, :, layer], expected[0, -4:], atol=1e-4)
        assert torch.allclose(model.model.norm(found.resid[row, :, -1]), output.hidden_states[-1][0, -4:], atol=1e-3)


def test_the_cache_is_addressed_by_all_that_matters(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path, "weights")
    paths = {
        cache.path([[1, 2]], (-1,), torch.float32),
        cache.path([[1, 3]], (-1,), torch.float32),
        cache.path([[1, 2]], (-2,), torch.float32),
        cache.path([[1, 2]], (-1,), torch.bfloat16),
        ActivationCache(tmp_path, "other weights").path([[1, 2]], (-1,), torch.float32),
    }
    assert len(paths) == 5


def test_a_damaged_cache_file_is_made_anew(tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    cache = ActivationCache(tmp_path, "weights")
    first = capture(model, tokenizer, ["a", "b"], cache=cache)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    again = capture(model, tokenizer, ["a", "b"], cache=cache)
    assert torch.equal(first.resid, again.resid)
    assert path.stat().st_size > 100


def test_activations_that_are_not_numbers_are_refused() -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"prompt 1 are NaN or infinite at resid\[3\]"):
        capture(model, tokenizer, ["a", "b"])


def test_a_plan_refuses_what_does_not_fit() -> None:
    from abliterate.checkpoints.checkpoint import Checkpoint

    other = random_model("llama")
    checkpoint = Checkpoint.open(Path(TINY))
    with pytest.raises(CheckpointError, match="config and weights belong to different models"):
        make_plan(Recipe.uniform(), torch.ones(48), find_architecture(other), other, checkpoint)
    with pytest.raises(InputError, match="belongs to another model"):
        make_plan(Recipe.uniform(), torch.ones(12), find_architecture(other), other, checkpoint)
    with pytest.raises(InputError, match="the recipe edits nothing"):
        make_plan(Recipe.uniform(0.0), torch.ones(48), find_architecture(other), other, checkpoint)


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"direction": "x"},
        {"direction": "x", "strengths": {"head": 1}},
        {"direction": "x", "strengths": {"mlp": "1"}},
    ],
)
def test_a_recipe_that_is_none_is_refused(data: object) -> None:
    with pytest.raises(InputError, match=r"not a recipe|must be finite numbers"):
        Recipe.from_json(data, "recipe.json")


def test_a_recipe_comes_back_as_it_was() -> None:
    recipe = Recipe({"embed": 1.0, "mlp": (0.0, 0.5)}, "resid.3")
    assert Recipe.from_json(recipe.to_json(), "x") == Recipe({"embed": 1.0, "mlp": (0.0, 0.5)}, "resid.3")
    with pytest.raises(InputError, match="2 strengths for a model of 3 layers"):
        recipe.check(3)


def test_differences_come_back_as_long_as_they_were(tmp_path: Path) -> None:
    harmful, harmless = (
        Activations(torch.randn(9, 2, 4, 6, generator=torch.Generator().manual_seed(seed)), (-2, -1)) for seed in (0, 1)
    )
    found = difference_in_means(harmful, harmless)
    found.save(tmp_path / "directions.safetensors", -2)
    read = load_differences(tmp_path / "directions.safetensors")
    assert sorted(read) == [0, 1, 2, 3]
    for layer, difference in read.items():
        assert torch.allclose(difference, found.difference(layer, -2), atol=1e-6)


def test_lengths_that_are_not_told(tmp_path: Path) -> None:
    save_file({"resid.1": torch.ones(4)}, tmp_path / "theirs.safetensors")
    with pytest.raises(InputError, match="does not tell how long the differences are"):
        load_differences(tmp_path / "theirs.safetensors")
