"""Results as a notebook shows them: a small table, a data frame, lines by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jaxtyping import Float
from torch import Tensor

from abliterate.extras import require


def small_table(caption: str, rows: Mapping[str, object]) -> str:
    """Return an HTML table of two columns under a caption, with every text escaped.

    Examples:
        >>> small_table("A set", {"layers": 9})
        '<table><caption>A set</caption><tr><th>layers</th><td>9</td></tr></table>'
    """
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{escape(caption)}</caption>{cells}</table>"


def frame_of(
    values: Float[Tensor, "*places columns"], index: Mapping[str, Sequence[int]], columns: Sequence[Any]
) -> Any:
    """Return a pandas.DataFrame with a row for every place, in float32 (float64 stays), indexed by the names of the axes.

    Raises InputError where pandas is not installed.
    """
    require("report", "a data frame", "pandas")
    import pandas

    numbers = values.flatten(0, -2).detach().cpu()
    numbers = numbers if numbers.dtype.itemsize > 4 else numbers.float()  # numpy has no bfloat16
    places = pandas.MultiIndex.from_product(list(index.values()), names=list(index))
    return pandas.DataFrame(numbers.numpy(), index=places, columns=list(columns))


def lines_by_layer(title: str, values: Float[Tensor, "positions layers"], positions: Sequence[int]) -> Any:
    """Return a plotly Figure of `values` over the layers `resid[0..L]`, a line for each position; gaps where NaN.

    Raises InputError where plotly is not installed.
    """
    require("report", "a plot", "plotly")
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for position, row in zip(positions, values.detach().cpu().float().tolist(), strict=True):
        drawn = [None if value != value else value for value in row]
        figure.add_scatter(x=list(range(len(row))), y=drawn, name=f"position {position}", mode="lines+markers")
    figure.update_layout(
        title=title, xaxis_title="layer (resid[l])", yaxis_title=title, template="plotly_white", showlegend=True
    )
    return figure
