"""What `pick` shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from abliterate.cli.pick import front_table
from abliterate.search.front import Front, Point
from abliterate.search.losses import TokenCount
from abliterate.search.stages import SearchResult
from abliterate.search.variables import Variables


def test_the_table_holds_the_front_and_marks_the_point_that_was_taken() -> None:
    nothing = Variables({}, torch.zeros(0))
    points = [Point(nothing, 1.0, *figures) for figures in ((0, 0, 30, 0.03), (2, 0, 30, 0.01), (3, 0, 30, 0.02))]
    table = front_table(SearchResult(Front(tuple(points), points[2]), TokenCount(), points[1]))
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["", "taken"], ["0/30", "2/30"], ["0.03", "0.01"]]


def test_where_refusals_should_stay_the_table_counts_them() -> None:
    point = Point(Variables({}, torch.zeros(0)), 1.0, 2, 0, 30, 0.01, 19, 20)
    table = front_table(SearchResult(Front((point,), point), TokenCount(), point))
    assert [list(column.cells) for column in table.columns][3] == ["19/20"]


def test_points_that_lose_too_many_are_shown_with_what_would_take_them() -> None:
    nothing = Variables({}, torch.zeros(0))
    points = [Point(nothing, 1.0, *figures) for figures in ((1, 0, 30, 0.01, 18, 20), (5, 0, 30, 0.01, 20, 20))]
    original = Point(nothing, None, 30, 0, 30, 0.0, 20, 20)
    table = front_table(SearchResult(Front(tuple(points), original), TokenCount(), points[1]))
    assert [*table.columns[0].cells] == ["beyond --max-lost 0.02", "taken"]


def test_a_folder_without_a_record_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "has no abliterate.json" in refused("pick", tmp_path, "--out", tmp_path / "out")
