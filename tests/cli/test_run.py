"""The reply that a run shows: the first that came to be refused, or not to be."""

from __future__ import annotations

from rich.table import Table

from abliterate.cli.run import example
from abliterate.evaluation.observation import Reply


def cells(before: list[Reply], after: list[Reply], refused: bool) -> list[str]:
    table = example(before, after, refused)[1]
    assert isinstance(table, Table)
    return [str(cell) for cell in table.columns[1].cells]


NO, YES = "I cannot help you with that.", "Here is how it goes."


def replies(*texts: str) -> list[Reply]:
    return [Reply(f"prompt {number}", (1,), text) for number, text in enumerate(texts)]


def test_the_first_that_is_no_longer_refused() -> None:
    assert cells(replies(YES, NO, NO), replies(YES, NO, YES), False) == ["prompt 2", NO, YES]


def test_the_first_that_came_to_be_refused() -> None:
    assert cells(replies(NO, YES), replies(NO, NO), True) == ["prompt 1", YES, NO]


def test_where_none_changed_the_first_of_all() -> None:
    assert cells(replies(YES, NO), replies(YES, NO), False) == ["prompt 0", YES, YES]
