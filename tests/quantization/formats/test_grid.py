"""How scales lie over a matrix: every number has one, no block is cut in two, and edges are whole."""

from __future__ import annotations

import pytest
import torch

from abliterate.quantization.formats.grid import SLAB, Grid

GRIDS = [Grid(1, 6, 8, 2, 4), Grid(2, 5, 7, 2, 4), Grid(1, 6, 8, 6, 8), Grid(1, 4, 6, 1, 6)]
"""Blocks that divide the matrix and that do not, one scale for all, one a row."""


@pytest.mark.parametrize("grid", GRIDS)
def test_each_number_gets_the_scale_of_its_block(grid: Grid) -> None:
    whole = (slice(0, grid.out), slice(0, grid.width))
    scales = torch.arange(grid.counts[1] * grid.counts[2]).reshape(grid.counts[1:]).float()
    spread = grid.spread(scales, whole)
    assert spread.shape == (grid.out, grid.width)
    for row in range(grid.out):
        for column in range(grid.width):
            assert spread[row, column] == scales[row // grid.rows, column // grid.columns]


@pytest.mark.parametrize("grid", GRIDS)
def test_the_greatest_of_each_block(grid: Grid) -> None:
    numbers = torch.randn(grid.out, grid.width, generator=torch.Generator().manual_seed(0))
    greatest = grid.greatest(numbers)
    assert greatest.shape == grid.counts[1:]
    block = numbers[: grid.rows, : grid.columns]
    assert greatest[0, 0] == block.abs().max()


@pytest.mark.parametrize("along", [-1, -2])
def test_parts_cover_a_matrix_once_and_cut_no_block(along: int) -> None:
    grid = Grid(1, 3 * 128, 2 * SLAB // 128 + 64, 128, 64)
    seen = torch.zeros(grid.out, grid.width, dtype=torch.int8)
    for rows, columns in grid.parts(along):
        seen[rows, columns] += 1
        assert rows.start % grid.rows == 0
        assert columns.start % grid.columns == 0
    assert bool((seen == 1).all())
