"""Phases on the page: drawn from the record alone, before beside after, and not drawn without controls."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.report.load import Gathered, gather
from abliterate.report.page import render
from abliterate.report.sections.phases import numbers, words
from abliterate.studies.record import write_study
from fixtures.phases_record import HOSTILE, record, turns


def gathered(folder: Path, **changes: object) -> Gathered:
    write_study(folder, record(**changes))
    return gather(folder)


def test_a_form_s_rows_stand_together_before_and_after(tmp_path: Path) -> None:
    found = words(gathered(tmp_path))
    assert found is not None
    complete, incomplete = found["outcomes"]
    assert complete["head"] == ["form", "phrases", "refuses", "answers"]
    assert [(row[0], row[1], row[2][:3]) for row in complete["rows"]] == [
        ("question", "harmful, before", "3/4"),
        ("question", "harmful, after", "1/4"),
        ("question", "harmless", "0/4"),
    ]
    assert [row[1] for row in incomplete["rows"]] == ["harmful, before", "harmful, after"]
    assert found["names"] == ["refuses", "answers", "goes on"]


def test_a_vector_stands_beside_the_best_random_one_and_what_chose_its_strength_is_left_out(tmp_path: Path) -> None:
    found = words(gathered(tmp_path))
    assert found is not None
    ((what, vector, alpha, brought, _, best),) = found["effects"]
    assert (what, vector, alpha) == ("A2: added", "dim", "0.5")
    assert (brought[:3], best[:3]) == ("7/8", "2/8")


def test_bars_of_the_original_stand_beside_those_of_the_edit(tmp_path: Path) -> None:
    (question, other) = numbers(gathered(tmp_path))["phases"]["forms"]
    assert [bar["outcome"] for bar in question["bars"]].count("refuses") == 1
    assert [bar["outcome"] for bar in question["before"]].count("refuses") == 3
    assert question["curve_before"][0]["share"] == 0.25
    assert other["form"] == HOSTILE


def test_a_phase_shows_what_it_says_where_the_replies_are_at_hand(tmp_path: Path) -> None:
    segments = [
        {"concept": "content", "begin": 0, "end": 4, "text": "Mix it."},
        {"concept": "content", "begin": 4, "end": 9, "text": "Bake it."},
    ]
    row = {"form": "question", "side": "harmful", "phrase": "bake", "sample": 0, "text": "", "segments": segments}
    other = [{**row, "sample": 1}, {**row, "side": "harmless"}, {**row, "form": HOSTILE, "segments": None}]
    write_study(
        tmp_path,
        record(),
        replies=[*({**row, "when": "after"} for _ in range(4)), *({**one, "when": "after"} for one in other)],
    )
    question, hostile = numbers(gather(tmp_path))["phases"]["forms"]
    assert question["bars"][1]["said"] == ["Mix it. Bake it."]
    assert question["bars"][1]["phrase"] == "bake"
    assert "said" not in question["before"][0]
    assert "said" not in hostile["bars"][0]


@pytest.mark.parametrize("line", ["{", '{"form": "question"}', '{"form": 3}'])
def test_replies_of_another_shape_are_refused_by_their_line(line: str, tmp_path: Path) -> None:
    write_study(tmp_path, record())
    (tmp_path / "phases-replies.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(InputError, match=r"phases-replies\.jsonl:2: "):
        gather(tmp_path)


def test_of_one_model_there_is_no_before(tmp_path: Path) -> None:
    records = gathered(tmp_path, results=turns(2))
    found = words(records)
    assert found is not None
    assert [row[1] for row in found["outcomes"][0]["rows"]] == ["harmful", "harmless"]
    assert numbers(records)["phases"]["forms"][0]["before"] is None
    assert "is before the edit" not in render(records)


def test_a_form_to_which_nothing_is_said_has_no_curve(tmp_path: Path) -> None:
    results = turns(2)
    results["onset"][HOSTILE] = {"replies": 0, "curve": []}
    question, silent = numbers(gathered(tmp_path, results=results))["phases"]["forms"]
    assert question["curve"]
    assert silent["curve"] is None


def test_without_controls_nothing_is_drawn(tmp_path: Path) -> None:
    records = gathered(tmp_path, controls={})
    assert words(records) is None
    assert numbers(records) == {"phases": None}
    assert 'id="phases"' not in render(records)
    assert "It is so." in render(records)


def test_names_of_forms_are_no_markup(tmp_path: Path) -> None:
    page = render(gathered(tmp_path))
    assert 'id="plot-phases"' in page
    assert HOSTILE not in page


def test_other_studies_have_no_phases() -> None:
    assert words(Gathered({})) is None
    assert numbers(Gathered({}))["phases"] is None
