"""Hooks of every kind: in compiled and dispatched models, in one another, and no trace of them afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from torch import nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError
from abliterate.interventions.ablation import ablated, ablated_rows
from abliterate.interventions.addition import added, added_rows
from abliterate.interventions.affine import affine
from abliterate.interventions.conditions import Condition, rows_where
from abliterate.interventions.hooks import at_input, at_output, at_resid, check_finite, hooks_of, on_first, project_rows
from abliterate.projection import project_out
from abliterate.proofs.stream import streams
from fixtures.folders import PROJECT
from fixtures.interventions import SEQUENCES, Act, hook_count, logits, padded
from fixtures.models import random_model

EXAMPLE = PROJECT / "examples" / "interventions.py"


def test_half_precision_stays_half_precision(direction: torch.Tensor, act: Act) -> None:
    model = random_model("llama").to(torch.bfloat16)
    with act(model, direction):
        assert logits(model).dtype == torch.bfloat16


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
@pytest.mark.parametrize("before", [True, pytest.param(False, marks=pytest.mark.slow)])
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


@pytest.mark.slow
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


def test_hooks_change_the_first_of_what_is_given_and_made() -> None:
    class Pair(nn.Module):
        def forward(self, hidden_states: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return hidden_states, other

    module, one = Pair(), torch.ones(1, 2)
    handle = at_input(module, lambda stream: stream + 1)
    for first, second in (module(one, one), module(hidden_states=one, other=one)):
        assert (first.tolist(), second.tolist()) == ([[2.0, 2.0]], [[1.0, 1.0]])
    handle.remove()
    handle = at_output(module, lambda stream: 3 * stream)
    assert module(one, one)[0].tolist() == [[3.0, 3.0]]
    assert module(one, one)[1].tolist() == [[1.0, 1.0]]
    handle.remove()
    assert on_first(one, torch.neg).tolist() == [[-1.0, -1.0]]
    assert hook_count(module) == 0


@pytest.mark.parametrize("layer", range(5))
def test_the_stream_is_changed_at_every_layer_the_last_one_included(llama: PreTrainedModel, layer: int) -> None:
    architecture = find_architecture(llama)
    before = streams(llama, architecture, SEQUENCES)
    with hooks_of() as hooks:
        hooks.callback(at_resid(llama, architecture, layer, lambda stream: stream + 1).remove)
        if layer == 4:  # behind the last layer only the final norm reads it
            assert not torch.allclose(logits(llama), _undisturbed(llama), atol=1e-3)
        else:
            after = streams(llama, architecture, SEQUENCES)
            assert torch.allclose(after[layer + 1], before[layer + 1], atol=1e-6) is False
            assert all(torch.equal(one, other) for one, other in zip(before[:layer], after[:layer], strict=True))
    assert hook_count(llama) == 0


def _undisturbed(llama: PreTrainedModel) -> torch.Tensor:
    return logits(random_model("llama"))


@pytest.mark.parametrize("strength", [1.0, 0.5, torch.tensor([1.0, 0.0, -1.0])], ids=str)
def test_each_row_is_projected_along_its_own_basis(strength: float | torch.Tensor) -> None:
    stream, bases = torch.randn(6, 4, 8), torch.nn.functional.normalize(torch.randn(3, 1, 8), dim=-1)
    found = project_rows(stream, bases, strength)
    for row in range(6):  # each basis serves a run of two rows
        own = float(strength[row // 2]) if isinstance(strength, torch.Tensor) else strength
        assert torch.allclose(found[row], project_out(stream[row], bases[row // 2], own), atol=1e-5)
    with pytest.raises(InputError, match="3 directions for a batch of 4 rows"):
        project_rows(stream[:4], bases, strength)


def test_numbers_that_are_not_finite_are_found() -> None:
    check_finite(1.0, "x")
    check_finite(torch.tensor([torch.inf]), "x", infinite=True)
    with pytest.raises(InputError, match="x holds NaN or infinity; give finite numbers"):
        check_finite(float("inf"), "x")
    with pytest.raises(InputError, match="x holds NaN; give finite numbers"):
        check_finite(torch.tensor([torch.nan, 1.0]), "x", infinite=True)
