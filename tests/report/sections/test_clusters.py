"""Clusters on the page: drawn from the record alone, and not drawn without controls."""

from __future__ import annotations

from pathlib import Path

from abliterate.report.load import Gathered, gather
from abliterate.report.page import render
from abliterate.report.sections.clusters import numbers, words
from abliterate.studies.record import write_study
from fixtures.clusters_record import HOSTILE, record, results


def gathered(folder: Path, **changes: object) -> Gathered:
    write_study(folder, record(**changes))
    return gather(folder)


def test_tables_hold_what_the_plots_show(tmp_path: Path) -> None:
    records = gathered(tmp_path)
    found = words(records)
    assert found is not None
    assert found["conclusion"] == "several directions"
    assert found["of"] == ""
    assert [row[-1] for row in found["spreads"]] == ["yes", "no"]
    assert [len(row) for row in found["spreads"]] == [10, 10]
    assert [row[-1] for row in found["members"]] == [f"{HOSTILE}, bread", "none"]
    assert found["effects"][0][-1].startswith("3/10")
    assert found["columns"] == ["on 1", "on 2"]
    drawn = numbers(records)["clusters"]
    assert len(drawn["rows"]) == len(found["effects"])
    assert len(drawn["plane"]["points"]) == 3


def test_conditional_use_is_shown_with_how_a_cluster_is_decided(tmp_path: Path) -> None:
    found = words(gathered(tmp_path))
    assert found is not None
    assert [row[0].split(":")[0] for row in found["conditional"]] == [
        "nearest",
        HOSTILE,
        "the centroids of the other clusters, on average",
        "nothing",
    ]
    assert found["conditional"][0][2].startswith("2/10")
    assert "by the cosine with its state; 1 harmful and 0 harmless prompts have no direction" in found["decided"]
    one = words(gathered(tmp_path, results={**results(), "conditional": None}))
    assert one is not None
    assert one["conditional"] == []


def test_a_candidate_is_called_so(tmp_path: Path) -> None:
    made = results()
    made["clusters"]["k"] = 1
    made["effects"]["diagonal"] = None
    found = words(gathered(tmp_path, results=made))
    assert found is not None
    assert "are a candidate" in found["of"]
    assert "not measurable" in found["diagonal"]


def test_without_controls_nothing_is_drawn(tmp_path: Path) -> None:
    records = gathered(tmp_path, controls={})
    assert words(records) is None
    assert numbers(records) == {"clusters": None}
    assert 'id="clusters"' not in render(records)
    assert words(Gathered({})) is None


def test_without_one_of_the_nulls_nothing_is_drawn(tmp_path: Path) -> None:
    made = results()
    spreads = made["clusters"]["choice"]["spreads"]
    spreads[0] = {name: value for name, value in spreads[0].items() if name != "shuffled_stability"}
    assert words(gathered(tmp_path, results=made)) is None


def test_phrases_are_no_markup(tmp_path: Path) -> None:
    page = render(gathered(tmp_path))
    assert 'id="plot-cluster-effects"' in page
    assert HOSTILE not in page
