"""Sites: where writers stand."""

from __future__ import annotations

from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.sites import SITES


def test_every_writer_stands_at_one_of_the_sites(model: PreTrainedModel) -> None:
    assert {writer.site for writer in find_architecture(model).writers} == set(SITES)
