"""What a run by form and place is asked, and what of it may be published."""

from __future__ import annotations

from pathlib import Path

from abliterate.pipeline.form_options import PLACES, FormOptions
from abliterate.pipeline.options import Options
from abliterate.records.option import declarations, words_of


def test_places_are_read_and_the_first_is_the_usual_one() -> None:
    read = declarations(FormOptions)["place"].read
    assert [read(place) for place in PLACES] == ["1", "1-harm", "2", "3"]
    assert FormOptions().place == PLACES[0]


def test_files_of_a_form_are_named_without_their_folder_and_found_beside_the_record() -> None:
    options = Options("model", Path("out"), form="own", phrases="/home/me/my.tsv", forms="builtin:forms")
    words = words_of(options)
    assert words == ["--form", "own", "--phrases", "my.tsv"]
    located = declarations(FormOptions)["phrases"].locate
    assert located is not None
    assert located("my.tsv", lambda name: Path("beside") / name) == str(Path("beside/my.tsv"))
    assert located("builtin:phrases-tiny", Path) == "builtin:phrases-tiny"
