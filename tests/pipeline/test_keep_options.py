"""Which look-alikes make an edit, and which measure it."""

from __future__ import annotations

import pytest

from abliterate.pipeline.keep_options import LOOK_ALIKES, REPORT_LOOK_ALIKES, KeepOptions
from abliterate.pipeline.prompt_specs import PROMPT_LISTS


@pytest.mark.parametrize(
    ("made_of", "measured", "expected"),
    [
        (LOOK_ALIKES, None, REPORT_LOOK_ALIKES),
        ("mine.txt", None, None),
        ("mine.txt", "yours.txt", "yours.txt"),
        (LOOK_ALIKES, "yours.txt", "yours.txt"),
    ],
)
def test_what_measures_is_no_part_of_what_makes(made_of: str, measured: str | None, expected: str | None) -> None:
    assert KeepOptions(look_alikes=made_of, report_look_alikes=measured).measured_look_alikes == expected


def test_the_usual_lists_are_those_of_the_package() -> None:
    assert {LOOK_ALIKES, REPORT_LOOK_ALIKES} <= set(PROMPT_LISTS)
