"""Fillers and apologies are whole segments."""

from __future__ import annotations

from abliterate.replies.rules_concepts import APOLOGY, FILLERS


def test_only_whole_segments_match() -> None:
    assert APOLOGY.fullmatch("i am sorry,")
    assert not APOLOGY.fullmatch("i am sorry to hear that")
    assert FILLERS.fullmatch("sure!")
    assert not FILLERS.fullmatch("sure, mix the flour.")
