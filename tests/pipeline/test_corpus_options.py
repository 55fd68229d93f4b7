"""The texts in which features are looked for, as options."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.corpus_options import FEATURE_FLAGS, CorpusOptions
from abliterate.records.option import declarations


def test_flags_are_options_and_lists_are_by_commas() -> None:
    assert set(FEATURE_FLAGS) <= set(declarations(CorpusOptions))
    assert declarations(CorpusOptions)["corpus"].typed("builtin:harmful, one.txt") == ("builtin:harmful", "one.txt")


def test_a_place_that_cannot_be_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give a folder"):
        CorpusOptions("model", out=tmp_path / "file").check()
    with pytest.raises(InputError, match="there is no folder"):
        CorpusOptions("model", out=tmp_path / "none" / "out").check()
    CorpusOptions("model", out=tmp_path / "out").check()
    CorpusOptions("model").check()
