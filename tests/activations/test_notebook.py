"""What a notebook shows: tables with every text escaped, frames with every place, plots with a line for each position."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from abliterate.activations.notebook import frame_of, lines_by_layer, small_table
from abliterate.errors import InputError


def test_a_table_holds_text_and_never_markup() -> None:
    made = small_table("<b>", {"a&b": "<script>"})
    assert made.count("<script>") == 0
    assert made.count("<b>") == 0
    assert "&lt;script&gt;" in made
    assert "a&amp;b" in made


def test_a_frame_has_a_row_for_every_place_in_their_order() -> None:
    values = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    frame = frame_of(values, {"position": (-2, -1), "layer": range(3)}, "abcd")
    assert frame.loc[(-1, 2)].tolist() == values[1, 2].tolist()
    assert frame.index.names == ["position", "layer"]
    assert frame_of(values.bfloat16(), {"position": (-2, -1), "layer": range(3)}, "abcd").equals(frame)
    assert frame_of(values.double(), {"position": (-2, -1), "layer": range(3)}, "abcd").dtypes.iloc[0] == "float64"


def test_a_plot_has_a_line_for_each_position_and_gaps_where_nothing_is_defined() -> None:
    values = torch.tensor([[torch.nan, 1.0, 2.0], [0.0, 3.0, 4.0]])
    figure = lines_by_layer("AUROC", values, (-2, -1))
    assert [list(one.y) for one in figure.data] == [[None, 1.0, 2.0], [0.0, 3.0, 4.0]]
    assert [one.name for one in figure.data] == ["position -2", "position -1"]
    assert list(figure.data[0].x) == [0, 1, 2]


def table() -> object:
    return frame_of(torch.zeros(1, 1), {"layer": range(1)}, "a")


def plot() -> object:
    return lines_by_layer("AUROC", torch.zeros(1, 1), (-1,))


@pytest.mark.parametrize(("module", "make"), [("pandas", table), ("plotly", plot)])
def test_what_is_not_installed_is_named_with_its_extra(
    module: str, make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abliterate.extras.find_spec", lambda name: None if name == module else sys.modules)
    with pytest.raises(InputError, match=rf"needs {module}, which is not installed: pip install .*\[report\]"):
        make()
