"""Rows by how much an edit changed them."""

from __future__ import annotations

import torch

from abliterate.studies.features.activity import Activity, Entries
from abliterate.studies.features.changed import MOST, changes_of

TEXTS, ROWS = 40, 60


def activity(values: torch.Tensor) -> Activity:
    """One token a text, each with all its values."""
    token, row = values.nonzero(as_tuple=True)
    return Activity(Entries(token, row, values[token, row]), torch.arange(TEXTS), torch.arange(TEXTS), TEXTS, ROWS, {})


def test_the_row_that_changed_most_comes_first_and_noise_is_not_told_from_it() -> None:
    drawn = torch.Generator().manual_seed(3)
    before = torch.rand(TEXTS, ROWS, generator=drawn) + 0.5
    after = before + 0.05 * torch.randn(TEXTS, ROWS, generator=drawn)
    after[:, 7] = 0
    after[:, 9] += 0.4
    found = changes_of(activity(before), activity(after))
    assert [one.place for one in found[:2]] == [7, 9]
    assert len(found) == MOST
    assert found[0].after == 0
    assert found[0].difference.mean.value < 0 < found[1].difference.mean.value
    assert max(one.p for one in found[:2]) < 0.01
    assert sum(one.p < 0.05 for one in found[2:]) <= 1
    held = found[0].to_json([str(place) for place in range(ROWS)], [["word"]] * ROWS)
    assert (held["row"], held["words"]) == ("7", ["word"])


def test_nothing_has_changed_where_both_are_the_same() -> None:
    before = activity(torch.rand(TEXTS, ROWS, generator=torch.Generator().manual_seed(1)) + 0.1)
    assert all(one.difference.mean.value == 0 and one.p == 1 for one in changes_of(before, before))
