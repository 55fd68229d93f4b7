"""The upper part of a model alone."""

from __future__ import annotations

import torch

from abliterate.models.live_model import LiveModel
from abliterate.studies.upper import Upper

PROMPTS = [(3, 5, 9), (4, 8, 11, 12), (21, 5), (30, 31, 32, 33, 34), (40, 6, 2), (50, 51, 52), (60, 61), (70, 71, 72)]


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=0))


def test_layers_below_do_not_run_and_are_put_back(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _ = planted
    torch.nn.init.normal_(live.model.model.layers[0].mlp.down_proj.weight)
    torch.nn.init.normal_(live.model.model.layers[3].self_attn.o_proj.weight)
    upper = Upper(live, 2, PROMPTS)
    whole = upper.final
    ran: list[int] = []
    handle = live.model.model.layers[1].mlp.register_forward_hook(lambda *_: ran.append(1))
    again = upper.hidden(torch.zeros(64), upper.batch.lengths - 1)
    assert not ran
    handle.remove()
    assert torch.allclose(again, whole, atol=1e-5)
    assert torch.allclose(Upper(live, 2, PROMPTS).final, whole)


def test_a_shift_is_the_addition_at_that_token(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, direction = planted
    upper = Upper(live, 2, PROMPTS[:1])
    moved = upper.hidden(10 * direction, torch.tensor([1]))
    assert torch.allclose(moved[0, [0, 2]], upper.final[0, [0, 2]], atol=1e-6)
    assert not torch.allclose(moved[0, 1], upper.final[0, 1])


def test_what_stands_before_all_rows_is_read_once_and_changes_nothing(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, direction = planted
    torch.nn.init.normal_(live.model.model.layers[3].self_attn.o_proj.weight)
    prefixes = [(9, 4, 2), (7, 7, 1)]
    rows = [(5, 6), (5, 7, 8)]
    whole = Upper(live, 2, [(*prefixes[1], *rows[0]), (*prefixes[0], *rows[1])])
    short = Upper(live, 2, rows, prefixes, [1, 0])
    shift = 10 * direction
    long = whole.hidden(shift, torch.tensor([3, 3]))[:, 3:]
    assert torch.allclose(short.hidden(shift, torch.tensor([0, 0]))[0, :2], long[0, :2], atol=1e-4)
    assert torch.allclose(short.hidden(shift, torch.tensor([0, 0]))[1], long[1], atol=1e-4)
