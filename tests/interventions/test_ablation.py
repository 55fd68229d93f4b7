"""Interventions on a live model: their algebra, where they hold, under what they hold, and that they leave no trace."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from transformers import PreTrainedModel

from abliterate.activations.capture import Activations
from abliterate.architectures.architecture import find_architecture
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError
from abliterate.interventions import (
    Condition,
    ablated,
    ablated_rows,
    added,
    added_rows,
    affine,
    mean_component,
    rows_where,
)
from abliterate.interventions.recipe import Recipe
from abliterate.projection import project_out
from abliterate.proofs.stream import relative_component, streams
from fixtures.folders import PROJECT
from fixtures.models import random_model

SEQUENCES = [[3, 14, 15, 9, 26], [5, 35, 8, 9, 79, 32, 38], [4, 6]]
LENGTHS = [len(one) for one in SEQUENCES]
EXAMPLE = PROJECT / "examples" / "interventions.py"

# From layer 2 on, so that a condition at resid[2] can decide on all of it.
LATE = Recipe({"attn": (0.0, 0.0, 1.0, 1.0), "mlp": (0.0, 0.0, 1.0, 1.0)})
ACTS: dict[str, Callable[..., AbstractContextManager[PreTrainedModel]]] = {
    "ablated": partial(ablated, recipe=LATE),
    "added": lambda model, direction, **how: added(model, direction, 2, scale=4.0, **how),
    "affine": lambda model, direction, **how: affine(model, direction, 3.0, [2, 4], **how),
}
"""Each kind of intervention, in one that begins at layer 2."""

Act = Callable[..., AbstractContextManager[PreTrainedModel]]


@pytest.fixture(params=sorted(ACTS))
def act(request: pytest.FixtureRequest) -> Act:
    return ACTS[request.param]


def padded(side: str) -> dict[str, torch.Tensor]:
    """Return the sequences as one batch with their mask."""
    tokens, mask = torch.zeros(3, 7, dtype=torch.long), torch.zeros(3, 7, dtype=torch.long)
    for row, sequence in enumerate(SEQUENCES):
        own = slice(7 - len(sequence), 7) if side == "left" else slice(0, len(sequence))
        tokens[row, own], mask[row, own] = torch.tensor(sequence), 1
    return {"input_ids": tokens, "attention_mask": mask}


def resid(model: PreTrainedModel, layer: int) -> list[torch.Tensor]:
    """Return `resid[layer]` of each sequence, as it is alone."""
    architecture = find_architecture(model)
    return [streams(model, architecture, [sequence])[layer] for sequence in SEQUENCES]


def between(values: torch.Tensor) -> float:
    """Return what parts values in two, in the widest gap of their middle: rounding moves none across."""
    ordered = values.flatten().sort().values
    first = len(ordered) // 4
    middle = ordered[first : len(ordered) - first]
    gap = int(middle.diff().argmax())
    return float(middle[gap : gap + 2].mean())


def hook_count(model: torch.nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


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


# What each does to the stream


def test_the_scale_of_an_addition_scales_its_vector(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    with added(llama, -2.5 * direction, 2):
        long = logits(llama)
    with added(llama, direction, 2, scale=-2.5):
        assert torch.equal(logits(llama), long)
    before = logits(llama)
    with added(llama, direction, 2, scale=0.0):
        assert torch.equal(logits(llama), before)


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


def test_half_precision_stays_half_precision(direction: torch.Tensor, act: Act) -> None:
    model = random_model("llama").to(torch.bfloat16)
    with act(model, direction):
        assert logits(model).dtype == torch.bfloat16


def test_the_mean_component_is_that_of_the_activations(direction: torch.Tensor) -> None:
    resid = torch.randn(6, 2, 5, 48)
    activations = Activations(resid, (-3, -1))
    assert torch.allclose(mean_component(activations, 2 * direction), (resid[:, 1] @ direction).mean(0), atol=1e-6)
    assert torch.allclose(mean_component(activations, direction, -3), (resid[:, 0] @ direction).mean(0), atol=1e-6)
    with pytest.raises(InputError, match="position -2 was not captured; there are -3, -1"):
        mean_component(activations, direction, -2)
    with pytest.raises(InputError, match="belongs to another model"):
        mean_component(activations, torch.ones(7))


# Rows that differ


def test_rows_carry_their_own_vector_and_layer(model: PreTrainedModel) -> None:
    vectors = torch.randn(3, 48)
    with added_rows(model, vectors, [1, 3, 1]):
        together = logits(model)
    for row, layer in enumerate([1, 3, 1]):
        with added(model, vectors[row], layer):
            alone = logits(model)
        assert torch.allclose(together[row], alone[row], atol=1e-4 * float(alone.abs().max()))


def test_rows_carry_their_own_target(model: PreTrainedModel) -> None:
    directions, targets = torch.randn(3, 48), torch.randn(3, 5)
    with affine(model, directions, targets):
        together = logits(model)
    for row in range(3):
        with affine(model, directions[row], targets[row]):
            alone = logits(model)
        assert torch.allclose(together[row], alone[row], atol=1e-4 * float(alone.abs().max()))


def test_rows_carry_their_own_strength(model: PreTrainedModel, direction: torch.Tensor) -> None:
    strengths = torch.tensor([0.0, 0.5, -1.0])
    with ablated_rows(model, direction.expand(3, 1, -1), Recipe.uniform(0.8), strengths=strengths):
        together = logits(model)
    for row, strength in enumerate(strengths.tolist()):
        with ablated(model, direction, Recipe.uniform(0.8 * strength)):
            alone = logits(model)
        assert torch.allclose(together[row], alone[row], atol=1e-4 * float(alone.abs().max()))


@pytest.mark.parametrize("whole", [True, False])
def test_rows_are_on_or_off(model: PreTrainedModel, direction: torch.Tensor, act: Act, whole: bool) -> None:
    """Also where the embedding is ablated, and with it the head that is tied to it and learned positions."""
    act = ablated if whole else act
    before = logits(model)
    with act(model, direction):
        on = logits(model)
    with act(model, direction, when=torch.tensor([True, False, True])):
        mixed = logits(model)
    assert torch.equal(mixed[1], before[1])
    assert torch.equal(mixed[[0, 2]], on[[0, 2]])
    assert not torch.allclose(on, before, atol=1e-2)


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


# Conditions


def test_a_condition_that_always_holds_changes_nothing(
    model: PreTrainedModel, direction: torch.Tensor, act: Act
) -> None:
    with act(model, direction):
        always = logits(model)
    with act(model, direction, when=Condition(direction, 2, -torch.inf)):
        assert torch.equal(logits(model), always)


def test_a_condition_that_never_holds_is_identity(model: PreTrainedModel, direction: torch.Tensor, act: Act) -> None:
    before = logits(model)
    with act(model, direction, when=Condition(direction, 2, torch.inf)):
        assert torch.equal(logits(model), before)


def test_a_condition_is_decided_token_by_token(model: PreTrainedModel, direction: torch.Tensor) -> None:
    architecture = find_architecture(model)
    before = streams(model, architecture, SEQUENCES)[2]
    along = before @ direction
    middle = between(along)
    with affine(model, direction, middle, [2], when=Condition(3 * direction, 2, middle)):  # at most the middle
        after = streams(model, architecture, SEQUENCES)[2]
    over = along > middle
    assert 3 <= int(over.sum()) <= 11
    assert torch.equal(after[~over], before[~over])
    assert torch.allclose(after[over] @ direction, torch.tensor(middle), atol=1e-5 * float(before.norm(dim=-1).max()))


def test_a_condition_decides_from_its_layer_on(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    before = logits(llama)
    with affine(llama, direction, 3.0, [2, 3, 4]):
        late = logits(llama)
    with affine(llama, direction, 3.0, when=Condition(direction, 2, -torch.inf)):
        assert torch.equal(logits(llama), late)
    assert not torch.equal(late, before)


def test_rows_have_their_own_thresholds(llama: PreTrainedModel, direction: torch.Tensor, act: Act) -> None:
    before = logits(llama)
    with act(llama, direction):
        on = logits(llama)
    limits = torch.tensor([torch.inf, -torch.inf, torch.inf])
    with act(llama, direction, when=Condition(direction.expand(3, -1), 1, limits)):
        assert torch.equal(logits(llama), torch.stack([before[0], on[1], before[2]]))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_prompts_are_chosen_at_their_last_token(
    model: PreTrainedModel, direction: torch.Tensor, side: str, layer: int
) -> None:
    along = torch.stack([stream[-1] @ direction for stream in resid(model, layer)])
    threshold = between(along)
    chosen = rows_where(model, Condition(direction, layer, threshold), **padded(side))
    assert chosen.tolist() == (along > threshold).tolist()
    assert 1 <= int(chosen.sum()) <= 2
    one = rows_where(model, Condition(direction, layer, threshold), torch.tensor([SEQUENCES[0]]))
    assert one.tolist() == chosen[:1].tolist()
    with ablated(model, direction, when=chosen):  # also where gradients are recorded
        assert model(**padded(side)).logits.requires_grad
    assert hook_count(model) == 0


# Generation


def recomputed(model: PreTrainedModel, sequence: list[int], count: int) -> list[int]:
    """Return the greedy reply, without a cache: the whole text once more for every token."""
    own = list(sequence)
    with torch.no_grad():
        for _ in range(count):
            own.append(int(model(torch.tensor([own]), use_cache=False).logits[0, -1].argmax()))
    return own[len(sequence) :]


@pytest.mark.parametrize("conditional", [True, False])
def test_a_reply_is_what_recomputation_gives(
    model: PreTrainedModel, direction: torch.Tensor, act: Act, conditional: bool
) -> None:
    how = {"when": Condition(direction, 2, between(torch.cat(resid(model, 2)) @ direction))} if conditional else {}
    model.generation_config.eos_token_id = None
    plain = model.generate(**padded("left"), max_new_tokens=6, do_sample=False, pad_token_id=0)
    with act(model, direction, **how):
        output = model.generate(**padded("left"), max_new_tokens=6, do_sample=False, pad_token_id=0)
        assert output[:, 7:].tolist() == [recomputed(model, sequence, 6) for sequence in SEQUENCES]
    assert conditional or not torch.equal(output, plain)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_cache_changes_no_reply(llama: PreTrainedModel, direction: torch.Tensor, act: Act, side: str) -> None:
    how = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with act(llama, direction, when=Condition(direction, 2, 0.0)):
        cached = llama.generate(**padded(side), **how)
        assert torch.equal(llama.generate(**padded(side), use_cache=False, **how), cached)


def test_padding_changes_no_row(model: PreTrainedModel, direction: torch.Tensor, act: Act) -> None:
    when = Condition(direction, 2, 0.0)
    with act(model, direction, when=when), torch.no_grad():
        batch = model(**padded("right")).logits
        for row, sequence in enumerate(SEQUENCES):
            alone = model(torch.tensor([sequence])).logits[0]
            assert torch.allclose(batch[row, : len(sequence)], alone, atol=1e-4 * float(alone.abs().max()))


# Compiled models, and models whose weights come and go


class Traced:
    """A backend of torch.compile that counts what it is given and how often that runs."""

    def __init__(self) -> None:
        self.graphs = self.runs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1

        def run(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_compiled_models_take_part(
    llama: PreTrainedModel, direction: torch.Tensor, act: Act, in_place: bool, before: bool
) -> None:
    torch.compiler.reset()
    backend, plain = Traced(), logits(llama)
    with act(llama, direction):
        hooked = logits(llama)
    compiled: Any = torch.compile(llama, backend=backend)
    if in_place:
        compiled = llama
        llama.compile(backend=backend)
    if before:
        assert torch.allclose(logits(compiled), plain, atol=1e-4)
        assert backend.graphs
    graphs, runs = backend.graphs, backend.runs
    with act(compiled, direction) as live:
        assert live is llama
        assert torch.equal(logits(compiled), hooked)
    assert (backend.graphs, backend.runs) == (graphs, runs)
    assert torch.allclose(logits(compiled), plain, atol=1e-4)
    assert backend.runs > runs
    torch.compiler.reset()


def test_contexts_that_end_out_of_order_leave_compiled_code_as_it_was(
    llama: PreTrainedModel, direction: torch.Tensor
) -> None:
    torch.compiler.reset()
    backend = Traced()
    compiled: Any = torch.compile(llama, backend=backend)
    with affine(llama, direction, 2.0):
        second = logits(llama)
    logits(compiled)
    runs = backend.runs
    first = added(llama, direction, 1)
    first.__enter__()
    with affine(llama, direction, 2.0):
        first.__exit__(None, None, None)
        assert torch.equal(logits(compiled), second)
    assert backend.runs == runs
    logits(compiled)
    assert backend.runs > runs
    torch.compiler.reset()


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_dispatched_models_take_part(tmp_path: Path, direction: torch.Tensor, act: Act, place: str) -> None:
    whole, when = random_model("gemma3_text", tie_word_embeddings=False), Condition(direction, 2, 0.0)
    with act(whole, direction, when=when):
        expected = logits(whole)
        chosen = rows_where(whole, when, **padded("left"))
    places = dict.fromkeys(["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"], "cpu")
    places |= {f"model.layers.{layer}": place if layer else "cpu" for layer in range(4)}
    # Weights on the CPU count as offloaded where the model runs elsewhere: here they stay in any case.
    split = dispatch_model(
        random_model("gemma3_text", tie_word_embeddings=False), places, main_device="cpu", offload_dir=tmp_path,
        force_hooks=True,
    )  # fmt: skip
    assert any(one.is_meta for one in split.parameters()) == (place == "disk")
    before = logits(split)
    with act(split, direction, when=when):
        assert torch.allclose(logits(split), expected, atol=1e-4 * float(expected.abs().max()))
        assert torch.equal(rows_where(split, when, **padded("left")), chosen)
    assert torch.equal(logits(split), before)
    assert hook_count(split) == 0


# One in another, and none left behind


def test_of_two_at_one_place_the_outer_acts_first(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    def along() -> torch.Tensor:
        return streams(llama, find_architecture(llama), SEQUENCES)[2] @ direction

    with affine(llama, direction, 3.0, [2]), added(llama, direction, 2, scale=2.0):
        assert torch.allclose(along(), torch.tensor(5.0), atol=1e-4)
    with added(llama, direction, 2, scale=2.0), affine(llama, direction, 3.0, [2]):
        assert torch.allclose(along(), torch.tensor(3.0), atol=1e-4)
    # What a condition sees has passed the contexts around it, not its own.
    with affine(llama, direction, 3.0, [2]), added(llama, direction, 2, when=Condition(direction, 2, 2.9)):
        assert torch.allclose(along(), torch.tensor(4.0), atol=1e-4)


def test_different_ones_in_one_another_are_taken_off_one_by_one(
    model: PreTrainedModel, direction: torch.Tensor
) -> None:
    other = torch.nn.functional.normalize(torch.randn(48), dim=0)
    before = logits(model)
    with ablated(model, direction):
        one = logits(model)
        with affine(model, other, 2.0, when=Condition(other, 1, 0.0)), added(model, other, 3):
            assert not torch.equal(logits(model), one)
        assert torch.equal(logits(model), one)
    assert torch.equal(logits(model), before)
    assert hook_count(model) == 0


@pytest.mark.parametrize("where", ["body", "pass"])
def test_nothing_is_left_behind_after_an_exception(
    model: PreTrainedModel, direction: torch.Tensor, act: Act, where: str
) -> None:
    before, weights = logits(model), {name: one.clone() for name, one in model.state_dict().items()}
    failing = pytest.raises(ZeroDivisionError if where == "body" else InputError)
    with failing, act(model, direction, when=Condition(direction, 2, 0.0)), ablated(model, direction):
        if where == "body":
            1 / 0  # noqa: B018
        with added_rows(model, torch.ones(2, 48), [3, 3]):  # two vectors for three rows fail in the fourth layer
            logits(model)
    assert hook_count(model) == 0
    assert torch.equal(logits(model), before)
    assert all(torch.equal(one, weights[name]) for name, one in model.state_dict().items())


@pytest.mark.parametrize("close", [True, False])
def test_nothing_is_left_behind_by_a_reply_that_nobody_reads_to_its_end(
    llama: PreTrainedModel, direction: torch.Tensor, act: Act, close: bool
) -> None:
    before = logits(llama)

    def reply() -> Iterator[int]:
        tokens = torch.tensor([SEQUENCES[0]])
        with act(llama, direction, when=Condition(direction, 2, 0.0)):
            while True:
                tokens = llama.generate(tokens, max_new_tokens=1, do_sample=False, pad_token_id=0)
                yield int(tokens[0, -1])

    words = reply()
    assert len([next(words), next(words)]) == 2
    assert hook_count(llama) > 0
    if close:
        words.close()  # type: ignore[attr-defined]
    del words
    assert hook_count(llama) == 0
    assert torch.equal(logits(llama), before)


# Errors


@pytest.mark.parametrize(
    ("enter", "message"),
    [
        (lambda model, r: added(model, torch.ones(7), 1), "belongs to another model"),
        (lambda model, r: affine(model, torch.ones(7), 1.0), "belongs to another model"),
        (lambda model, r: affine(model, r, 1.0, [5]), "layer 5 is out of range; the model has layers 0 to 4"),
        (lambda model, r: affine(model, r, torch.ones(3)), "3 targets; give one number, or one for each of resid"),
        (lambda model, r: affine(model, r.expand(2, -1), torch.ones(3, 5)), "targets for 3 rows and 2 directions"),
        (lambda model, r: affine(model, 0 * r, 1.0), "zero length"),
        (lambda model, r: added_rows(model, torch.ones(2, 48), [1]), "1 layers for 2 vectors; give one each"),
        (lambda model, r: ablated_rows(model, r[None, None], strengths=torch.ones(2)), "2 strengths for 1 directions"),
        (lambda model, r: ablated(model, r, when=Condition(r, 2, 0.0)), "after model.embed_tokens has written"),
        (lambda model, r: added(model, r, 1, when=Condition(r, 2, 0.0)), "after resid.1. where the vector is added"),
        (lambda model, r: affine(model, r, 1.0, [1], when=Condition(r, 2, 0.0)), "after resid.1. where it should act"),
        (lambda model, r: added(model, r, 1, when=Condition(r, -1, 0.0)), "layer -1 is out of range"),
        (lambda model, r: added(model, r, 1, when=Condition(torch.ones(7), 1, 0.0)), "belongs to another model"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(
    llama: PreTrainedModel, direction: torch.Tensor, enter: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message), enter(llama, direction):
        pass
    assert hook_count(llama) == 0


@pytest.mark.parametrize(
    ("enter", "message"),
    [
        (lambda model, r: added_rows(model, torch.ones(2, 48), [1, 1]), "2 vectors for a batch of 3 rows"),
        (lambda model, r: affine(model, r.expand(2, -1), 1.0), "2 directions for a batch of 3 rows"),
        (lambda model, r: ablated_rows(model, r.expand(2, 1, -1)), "2 directions for a batch of 3 rows"),
        (
            lambda model, r: added(model, r, 1, when=torch.tensor([True, False])),
            "`when` is given for 2 rows, the batch",
        ),
        (
            lambda model, r: added(model, r, 1, when=Condition(r, 1, torch.ones(2))),
            "2 thresholds for a batch of 3 rows",
        ),
    ],
)
def test_rows_that_do_not_match_the_batch_are_refused(
    llama: PreTrainedModel, direction: torch.Tensor, enter: Callable[..., Any], message: str
) -> None:
    with pytest.raises(InputError, match=message), enter(llama, direction):
        logits(llama)
    assert hook_count(llama) == 0


def test_a_condition_whose_layer_does_not_run_is_refused(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    """As a layer of cross-attention does not when there is no image."""
    when, hidden = Condition(direction, 2, 0.0), torch.randn(1, 3, 48)
    rotary = llama.model.rotary_emb(hidden, torch.arange(3)[None])
    with added(llama, direction, 3, when=when):
        logits(llama)
        llama.model.layers[0](hidden, position_embeddings=rotary)  # a new pass, and what was decided is void
        with pytest.raises(InputError, match="its layer did not run"):
            llama.model.layers[3](hidden, position_embeddings=rotary)
    llama.config.num_hidden_layers = 2
    with pytest.raises(InputError, match="its layer did not run"):
        rows_where(llama, when, torch.tensor([SEQUENCES[0]]), architecture=find_architecture(random_model("llama")))


def test_the_example_shows_what_each_does() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {
        line[:40].strip(): (int(line[40:48]), int(line[48:57]))
        for line in done.stdout.splitlines()
        if "refused," in line
    }
    assert found["refused, none"][0] == 16
    for name in ("ablated", "ablated, prompts over the limit", "affine, to harmless", "affine, tokens over the limit"):
        assert found[f"refused, {name}"] == (0, 0)
    assert found["refused, added"][1] > 4
