"""The plan of the house, held: imports point upwards, files and functions stay small, public names are sorted."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import abliterate

ROOT = Path(abliterate.__file__).parent

ORDER = [
    "errors", "extras", "progress", "kept", "parallel", "processes", "projection", "wrappers", "quantized", "dequantize", "requantize", "prompts", "refusals", "coherence", "template", "shards", "shard_copy", "shard_rewrite", "checkpoint", "staging",
    "offload", "ragged", "source", "alike", "adapter", "loading", "clone", "recording", "trace", "roles", "architecture", "recipe", "interventions", "forward", "replies", "activations", "bias_form", "scoring",
    "directions", "selection", "inducing", "search", "layout", "tensor_edits", "stored", "plan", "in_place", "edit", "comparison", "verify", "proof", "census", "evaluation", "outputs", "options", "repeat", "report", "session", "run_conditions", "training", "chat", "pipeline", "verbs", "render", "cli", "__main__",
]  # fmt: skip
"""Rooms from the top down: each may import those before it (and files of its own room)."""

FILES = sorted(path for path in ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "abliterate"
        for alias in node.names
    }
    return {name.split(".")[1] for name in names if name.startswith("abliterate.")}


def test_every_room_is_on_the_plan() -> None:
    assert {room(path) for path in FILES} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upwards(path: Path) -> None:
    if path == ROOT / "__init__.py":
        return
    own = ORDER.index(room(path))
    below = {name for name in imports(ast.parse(path.read_text())) if name in ORDER and ORDER.index(name) > own}
    assert not below


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, node.name


@pytest.mark.parametrize(
    "path", [path for path in FILES if room(path) != "cli"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_the_command_line_prints(path: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "print" not in names


def test_public_names_are_sorted_and_there() -> None:
    assert list(abliterate.__all__) == sorted(abliterate.__all__)
    for name in abliterate.__all__:
        assert getattr(abliterate, name).__doc__
