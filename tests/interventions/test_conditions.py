"""When an intervention holds: by row, by token, in a cached reply as in the whole text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError
from abliterate.interventions.ablation import ablated, ablated_rows
from abliterate.interventions.addition import added, added_rows
from abliterate.interventions.affine import affine
from abliterate.interventions.conditions import Condition, rows_where
from abliterate.proofs.stream import streams
from fixtures.interventions import SEQUENCES, Act, hook_count, logits, padded
from fixtures.models import random_model


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
