"""What a record's word for a list of prompts stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.prompt_specs import PROMPT_LISTS, spec_beside


@pytest.mark.parametrize("text", [*PROMPT_LISTS, "org/set:train:column"])
def test_lists_that_everybody_has_stay_what_they_are(text: str) -> None:
    assert spec_beside(text, Path) == text


def test_a_file_is_the_one_beside_the_record() -> None:
    assert spec_beside("bad.txt:goal", lambda name: Path("/run") / name) == "/run/bad.txt:goal"


def test_what_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder or file here; say where they are with a flag"):
        spec_beside(str(tmp_path), Path)
    with pytest.raises(InputError, match="is no file beside it, and no name on the Hub"):
        spec_beside("not a name", Path)
