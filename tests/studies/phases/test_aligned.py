"""The component around turns: a planted rise is seen before the turn."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
import torch

from abliterate.activations.places import capture_places
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.studies.phases.aligned import aligned, components, turn_of
from abliterate.studies.phases.labels import CutReply, LabelledReply
from abliterate.studies.phases.method import Segment
from fixtures.models import random_model
from fixtures.tiny_chat import tiny_chat


def turning(at: int | None) -> LabelledReply:
    segments = (Segment("content", 0, 40),) if at is None else (Segment("content", 0, at), Segment("safety", at, 40))
    return LabelledReply(CutReply((1,) * 40, "a long enough text of many words", (), (20, 40), 40), segments)


def test_a_component_that_rises_five_tokens_before_leads_by_five() -> None:
    turns = [turning(20 + place) for place in range(8)]
    values = [numpy.where(numpy.arange(40) >= 15 + place, 2.0, 0.0) for place in range(8)]
    assert [turn_of(one) for one in turns] == list(range(20, 28))
    found = aligned(turns, values)
    assert found is not None
    assert found.turns == 8
    assert found.auroc == pytest.approx((5 + 3 / 2) / 8)
    assert aligned(turns[:3], values[:3]) is None


def test_components_are_those_of_the_captured_stream_along_each_vector() -> None:
    live = LiveModel.of(random_model("llama"), tiny_chat())
    pairs = [
        (Text((5, 9, 33)[:length], {"prompt_end": length - 1}), replace(turning(None), cut=replace(turning(None).cut, tokens=reply)))
        for length, reply in ((3, (7, 8, 9, 10)), (2, (11, 12)))
    ]  # fmt: skip
    vectors = torch.randn(3, live.architecture.d_model, generator=torch.Generator().manual_seed(0))
    found = components(live, pairs, vectors, 2)
    for (text, reply), own in zip(pairs, found, strict=True):
        places = {f"reply[{place}]": len(text.tokens) + place for place in range(len(reply.cut.tokens))}
        whole = Text((*text.tokens, *reply.cut.tokens), places)
        stream = capture_places(live, [whole], tuple(places), (2,)).resid[0, 0].double()
        expected = stream @ torch.nn.functional.normalize(vectors.double(), dim=1).T
        assert own == pytest.approx(expected.T.numpy(), abs=1e-5)
