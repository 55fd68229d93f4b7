"""What a search is asked to do, as words of a command and back."""

from __future__ import annotations

from pathlib import Path

from abliterate.pipeline.options import Options
from abliterate.pipeline.search_options import SearchOptions
from abliterate.records.option import declarations, words_of


def test_a_switch_that_was_switched_off_says_so_and_one_that_was_not_touched_says_nothing() -> None:
    for value, words in ((None, []), (True, ["--optimize"]), (False, ["--no-optimize"])):
        assert words_of(Options("m", Path("o"), optimize=value)) == words
    assert declarations(SearchOptions)["optimize"].off == "--no-optimize"
