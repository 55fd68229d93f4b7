"""A front kept beside its result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.search.found_file import load_found, save_found
from abliterate.search.front import Front, Point
from abliterate.search.losses import TokenCount
from abliterate.search.stages import SearchResult
from abliterate.search.variables import Variables


def found() -> SearchResult:
    def point(number: int) -> Point:
        edit = Variables(
            {"embed": torch.rand(1), "attn": torch.rand(3)}, torch.nn.functional.normalize(torch.rand(5), dim=0)
        )
        return Point(edit, 0.1 * number, 4 - number, 0, 30, 0.01 * number)

    points = tuple(map(point, range(1, 4)))
    original = Point(Variables({}, torch.zeros(0)), None, 20, 0, 30, 0.0)
    return SearchResult(Front(points, original, 0.1), TokenCount(11, 7), points[1])


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    before = found()
    save_found(tmp_path / "search.safetensors", before)
    after = load_found(tmp_path / "search.safetensors")
    assert after.front.max_lost == 0.1
    assert json.dumps(after.to_json()) == json.dumps(before.to_json())
    for one, other in zip(before.front.points, after.front.points, strict=True):
        assert torch.equal(one.edit.direction, other.edit.direction)
        assert all(torch.equal(one.edit.strengths[site], other.edit.strengths[site]) for site in one.edit.strengths)
    save_found(tmp_path / "again.safetensors", after)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "search.safetensors").read_bytes()


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    path = tmp_path / "search.safetensors"
    with pytest.raises(InputError, match="has no search"):
        load_found(path)
    save_found(path, found())
    whole = path.read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        whole.replace(b'\\"chosen\\": 1', b'\\"chosen\\": 9'),
        b"",
        whole.replace(b"attn", b"what"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            load_found(path)
