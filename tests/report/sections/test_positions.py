"""Positions on the page: drawn from the record alone, and not drawn without controls."""

from __future__ import annotations

from pathlib import Path

from abliterate.report.load import Gathered, gather
from abliterate.report.page import render
from abliterate.report.sections.positions import brackets, numbers, words
from abliterate.studies.record import write_study
from fixtures.positions_record import HOSTILE, record


def gathered(folder: Path, **changes: object) -> Gathered:
    write_study(folder, record(**changes))
    return gather(folder)


def test_tables_hold_what_the_plots_show(tmp_path: Path) -> None:
    found = words(gathered(tmp_path))
    assert found is not None
    assert found["starts"][0][3].startswith("6/10")
    assert found["cells"][0][:3] == ["open/1", "40.5 refused", "50.5 answered"]
    assert found["cells"][1][-1] == "2 refusals, 3 answers: not enough"
    assert found["sweeps"][0][-1] == "robust"
    assert found["components"][0][2] == "0.8 [0.7,\u00a00.9]"


def test_edits_stand_beside_random_ones_and_are_left_out_without_them(tmp_path: Path) -> None:
    found = words(gathered(tmp_path))
    assert found is not None
    assert found["best"] == "open/1"
    assert [row[0] for row in found["edits"]] == ["open/1", "random 1"]
    assert found["edits"][0][2].startswith("1/5")
    assert "Edits by place" in render(gather(tmp_path))
    without = words(gathered(tmp_path, controls={"open/1": {"random": []}}))
    assert without is not None
    assert without["edits"] == []


def test_like_vectors_stand_together(tmp_path: Path) -> None:
    drawn = numbers(gathered(tmp_path))["positions"]
    assert [one["layer"] for one in drawn["similarity"]] == [3, 4]
    assert drawn["similarity"][0]["names"] == ["open/2", "open/1"]
    assert drawn["similarity"][0]["pairs"][0][0] is None
    assert drawn["similarity"][0]["pairs"][0][1]["floor"] == 0.25
    assert len(drawn["sweeps"][0]["random"]) == 1
    assert drawn["similarity"][0]["tree"] == [[[0.0, 1.0], [0.7, 1.0], [0.7, 0.0], [0.0, 0.0]]]


def test_a_tree_joins_groups_at_the_middle_of_their_rows() -> None:
    one = {"names": ["a", "b", "c"], "order": [2, 0, 1], "joins": [[0, 1, 0.1], [2, 3, 0.6]]}
    first, second = brackets(one)
    assert first == [[0.0, 1.0], [0.1, 1.0], [0.1, 2.0], [0.0, 2.0]]
    assert second == [[0.0, 0.0], [0.6, 0.0], [0.6, 1.5], [0.1, 1.5]]
    assert brackets({"names": ["a"], "order": [0]}) == []


def test_without_controls_nothing_is_drawn(tmp_path: Path) -> None:
    records = gathered(tmp_path, controls={})
    assert words(records) is None
    assert numbers(records) == {"positions": None}
    assert "It is so." in render(records)
    assert 'id="positions"' not in render(records)


def test_names_of_forms_are_no_markup(tmp_path: Path) -> None:
    page = render(gathered(tmp_path))
    assert 'id="plot-similarity"' in page
    assert HOSTILE not in page


def test_other_studies_have_no_positions() -> None:
    assert words(Gathered({})) is None
    assert numbers(Gathered({}))["positions"] is None
