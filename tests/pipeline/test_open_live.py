"""A live model for whoever brings own texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.corpus_options import CorpusOptions
from abliterate.pipeline.open_live import open_live
from fixtures.tiny_chat import TINY


def test_what_was_left_is_kept_by_command_model_and_options(cache: Path) -> None:
    options = CorpusOptions(str(TINY), device="cpu", dtype="float32", system="Be brief.")
    opened = open_live("features explain", options)
    assert opened.dtype == "float32"
    assert opened.live.chat.system == "Be brief."
    assert cache in opened.kept.path.parents
    again = open_live("features explain", replace(options, out=cache.parent / "out"))
    assert again.kept.path == opened.kept.path  # where it goes does not count
    assert open_live("features train", replace(options, texts=30)).kept.path != opened.kept.path


def test_out_is_checked_before_a_model_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        open_live("features explain", CorpusOptions("no/such-model", out=tmp_path / "none" / "out"))
