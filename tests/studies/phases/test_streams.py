"""The stream behind each text is that of its reply, whatever batch it was read in."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.activations.places import capture_places
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.studies.phases.labels import CutReply, LabelledReply
from abliterate.studies.phases.streams import of_streams
from fixtures.models import random_model
from fixtures.tiny_chat import tiny_chat


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_stream_is_that_of_the_replys_tokens_in_the_order_of_the_replies(batch_size: int) -> None:
    live = replace(LiveModel.of(random_model("llama"), tiny_chat()), batch_size=batch_size)
    said = [((5, 9, 33), (7, 8, 9, 10)), ((6,), ()), ((5, 9), (11, 12))]
    pairs = [
        (Text(text, {}), LabelledReply(CutReply(reply, "", (), (), len(reply)), ())) for text, reply in said
    ]  # fmt: skip
    found = of_streams(live, pairs, 2, lambda reply, stream: (reply.cut.tokens, stream), "reading")
    assert [tokens for tokens, _ in found] == [reply for _, reply in said]
    for (text, reply), (_, stream) in zip(said, found, strict=True):
        assert stream.shape == (len(reply), live.architecture.d_model)
        for place, own in enumerate(stream, len(text)):
            whole = Text((*text, *reply), {"here": place})
            expected = capture_places(live, [whole], ("here",), (2,)).resid[0, 0, 0].double()
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)
