"""The laws of steering by features; those of all interventions are tested beside the others."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError
from abliterate.interventions import Condition, added
from abliterate.interventions.features import amplified, calibrated, inverse_of, raised
from abliterate.proofs.stream import streams
from fixtures.interventions import SEQUENCES, logits
from fixtures.models import random_model

ROWS = torch.randn(5, 48, generator=torch.Generator().manual_seed(11))
UNIT = torch.nn.functional.normalize(ROWS, dim=1)
OFFSET = 0.2 * torch.randn(48, generator=torch.Generator().manual_seed(12))


def stream(
    model: PreTrainedModel, inside: AbstractContextManager[PreTrainedModel] | None = None, layer: int = 2
) -> torch.Tensor:
    architecture = find_architecture(model)
    if inside is None:
        return streams(model, architecture, SEQUENCES)[layer]
    with inside:
        return streams(model, architecture, SEQUENCES)[layer]


def along(states: torch.Tensor, offset: torch.Tensor | float = 0.0) -> torch.Tensor:
    return ((states - offset) @ UNIT.T).relu()


def near(one: torch.Tensor, other: torch.Tensor, scale: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5 * float(scale.abs().max()))


def test_amplify_is_its_formula_and_linear_in_alpha(model: PreTrainedModel) -> None:
    before = stream(model)
    for alpha in (2.0, -0.5):
        moved = stream(model, amplified(model, 3 * ROWS, 2, alpha, offset=OFFSET))
        assert near(moved - before, alpha * along(before, OFFSET) @ UNIT, before)
    one, two = (stream(model, amplified(model, ROWS, 2, alpha)) - before for alpha in (1.0, 2.0))
    assert near(2 * one, two, before)
    assert torch.equal(stream(model, amplified(model, ROWS, 2, 3.0), 1), stream(model, layer=1))


def test_what_does_nothing_changes_no_bit(model: PreTrainedModel) -> None:
    before = logits(model)
    shut = torch.zeros(3, dtype=torch.bool)
    far = -1e6 * UNIT.sum(0)  # an origin so far out that no state is along any row
    for still in (
        amplified(model, ROWS, 2, 0.0),
        amplified(model, ROWS, 2, 3.0, when=shut),
        calibrated(model, ROWS, 2, 3.0, when=shut),
        calibrated(model, ROWS, 2, 3.0, when=Condition(UNIT[0], 2, torch.inf)),
        calibrated(model, UNIT[:1], 2, 0.0, offset=-far),
        raised(model, ROWS, 2, 0.0),
        raised(model, UNIT[:1], 2, 1.0, offset=1e6 * -UNIT[0]),
    ):
        with still:
            assert torch.equal(logits(model), before)


def test_calibrate_is_its_formula(model: PreTrainedModel) -> None:
    before = stream(model)
    moved = stream(model, calibrated(model, 3 * ROWS, 2, 1.5, offset=OFFSET))
    assert near(moved - before, 1.5 * UNIT.mean(0) - along(before, OFFSET) @ UNIT, before)


def test_one_feature_is_removed_exactly_and_several_only_where_orthogonal(llama: PreTrainedModel) -> None:
    before = stream(llama)
    one = stream(llama, amplified(llama, ROWS[:1], 2, -1.0))
    assert float(along(one)[..., 0].max()) <= 1e-5 * float(before.abs().max())
    plain, apart = (stream(llama, amplified(llama, ROWS, 2, -1.0, orthogonal=own)) for own in (False, True))
    assert float(along(plain).max()) > 1e-2 * float(along(before).max())
    assert float(along(apart).max()) <= 1e-4 * float(along(before).max())
    cleared = stream(llama, calibrated(llama, ROWS, 2, 0.0, orthogonal=True))
    assert torch.allclose(cleared, apart, atol=1e-5)
    more = stream(llama, amplified(llama, ROWS, 2, 2.0, orthogonal=True))
    assert torch.allclose(along(more), 3 * along(before), atol=1e-4 * float(along(more).max()))


def test_raise_lifts_only_what_falls_short(llama: PreTrainedModel) -> None:
    before = stream(llama)
    value = float(along(before).median()) + 0.5
    short = (value - along(before)).relu()
    moved = stream(llama, raised(llama, ROWS, 2, value))
    share = short / short.sum(-1, keepdim=True).clamp(min=1e-12)
    assert near(moved - before, value * share @ UNIT, before)


@pytest.mark.parametrize("kind", ["amplified", "calibrated", "raised"])
def test_keep_norm_keeps_lengths(llama: PreTrainedModel, kind: str) -> None:
    how = {"amplified": amplified, "calibrated": calibrated, "raised": raised}[kind]
    before = stream(llama)
    moved = stream(llama, how(llama, ROWS, 2, 2.0, keep_norm=True))
    assert torch.allclose(moved.norm(dim=-1), before.norm(dim=-1), rtol=1e-5)
    free = stream(llama, how(llama, ROWS, 2, 2.0))
    assert torch.allclose(
        torch.nn.functional.normalize(moved, dim=-1), torch.nn.functional.normalize(free, dim=-1), atol=1e-5
    )


def test_rows_of_a_batch_are_independent_and_gates_are_by_row(llama: PreTrainedModel) -> None:
    before = logits(llama)
    with calibrated(llama, ROWS, 2, 2.0):
        whole = logits(llama)
    with calibrated(llama, ROWS, 2, 2.0, when=torch.tensor([True, False, True])):
        some = logits(llama)
    assert torch.equal(some[1], before[1])
    assert torch.allclose(some[[0, 2]], whole[[0, 2]], atol=1e-5)


def test_the_last_stream_can_be_steered_and_steerings_nest(llama: PreTrainedModel) -> None:
    before = stream(llama, layer=4)
    assert near(stream(llama, amplified(llama, ROWS, 4, 1.0), 4) - before, along(before) @ UNIT, before)
    with added(llama, ROWS[0], 2):
        shifted = stream(llama, amplified(llama, ROWS, 2, 1.0))
    moved = stream(llama) + ROWS[0]
    assert near(shifted, moved + along(moved) @ UNIT, moved)


@pytest.mark.parametrize("kind", ["amplified", "calibrated", "raised"])
def test_a_reply_with_its_cache_is_that_of_full_passes(llama: PreTrainedModel, kind: str) -> None:
    how = {"amplified": amplified, "calibrated": calibrated, "raised": raised}[kind]
    tokens = torch.tensor([SEQUENCES[0]])
    with how(llama, ROWS, 2, 2.0, when=Condition(UNIT[0], 2, 0.0)), torch.no_grad():
        said = llama.generate(tokens, max_new_tokens=6, do_sample=False, eos_token_id=-1)
        whole = tokens
        for _ in range(6):
            whole = torch.cat([whole, llama(whole, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(said, whole)


def test_half_precision_stays_half_precision() -> None:
    model = random_model("qwen2").to(torch.bfloat16)
    with amplified(model, ROWS, 2, 1.0), torch.no_grad():
        assert model(torch.arange(5)[None]).logits.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("rows", "how", "said"),
    [
        (ROWS[0], {}, "rows have shape"),
        (ROWS[:, :7], {}, "belongs to another model"),
        (torch.zeros(1, 48), {}, "zero"),
        (torch.full((1, 48), torch.nan), {}, "NaN"),
        (ROWS, {"layer": 5}, "out of range"),
        (ROWS[[0, 0]], {"orthogonal": True}, "the 2 rows are linearly dependent"),
        (ROWS, {"when": Condition(UNIT[0], 3, 0.0)}, r"decided at resid\[3\], after resid\[2\]"),
        (ROWS, {"alpha": torch.nan}, "alpha holds NaN"),
        (ROWS, {"offset": torch.ones(7)}, "belongs to another model"),
    ],
)
def test_what_cannot_be_steered_by_is_refused(
    llama: PreTrainedModel, rows: torch.Tensor, how: dict[str, object], said: str
) -> None:
    given = {"layer": 2, "alpha": 1.0, **how}
    with pytest.raises(InputError, match=said), amplified(llama, rows, **given):  # type: ignore[arg-type]
        pass


def test_values_below_zero_raise_nothing_and_the_inverse_is_one(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="give 0 or more"), raised(llama, ROWS, 2, -1.0):
        pass
    assert torch.allclose(inverse_of(UNIT) @ UNIT.T, torch.eye(5), atol=1e-5)
