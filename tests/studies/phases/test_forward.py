"""The vector by reading the target."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.studies.phases.forward import Targets, forward

PROMPTS = [(3, 5, 9), (4, 8, 11, 12), (21, 5), (30, 31, 32, 33, 34), (40, 6, 2), (50, 51, 52), (60, 61), (70, 71, 72)]


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=0))


def test_reading_the_same_reply_twice_gives_nothing(planted: tuple[LiveModel, torch.Tensor]) -> None:
    live, _ = planted
    text = Text((3, 5, 9), {"prompt_end": 2})
    assert not forward(live, 2, [Targets(text, (11, 12, 13), (11, 12, 13))]).any()
    found = forward(live, 2, [Targets(text, (11, 12, 13, 14), (11, 22, 23))])
    rows = live.model.model.embed_tokens.weight.double()
    expected = rows[[12, 13]].mean(0) - rows[[22, 23]].mean(0)
    assert torch.allclose(found, expected, atol=1e-6)
    with pytest.raises(InputError, match="no prompt has both"):
        forward(live, 2, [Targets(text, (11,), (12, 13))])
