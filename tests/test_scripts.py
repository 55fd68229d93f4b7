"""Benchmarks, examples and tools are run by hand: what they take from the package must still be there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from fixtures.folders import PROJECT

SCRIPTS = sorted(path for folder in ("benchmarks", "examples", "tools") for path in (PROJECT / folder).glob("*.py"))


def taken(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each module of the package that a script imports from, and the name it takes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "abliterate":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "__name__") for alias in node.names if alias.name.split(".")[0] == "abliterate")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_a_script_takes_from_the_package_is_there(path: Path) -> None:
    for module, name in taken(path):
        assert hasattr(import_module(module), name) or find_spec(f"{module}.{name}"), f"{module}.{name}"
