"""SECURITY.md names the test that holds each boundary, and the test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NODES = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


def test_every_boundary_names_its_test() -> None:
    _, _, untrusted = TEXT.partition("## What is not\n")
    boundaries = re.split(r"^- ", untrusted.partition("## What is left")[0], flags=re.M)[1:]
    assert len(boundaries) > 25
    assert [one for one in boundaries if not re.search(r"`tests/[\w/]+\.py::test_\w+`", one)] == []


@pytest.mark.parametrize(("file", "name"), NODES, ids=[name for _, name in NODES])
def test_the_tests_that_are_named_are_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    assert name.startswith("test_")


def test_nothing_that_looks_like_a_test_is_overlooked() -> None:
    assert len(NODES) == len(set(re.findall(r"tests/[^\s`]+", TEXT)))
