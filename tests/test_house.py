"""The plan of the house, held: rooms in their order, imports upwards, small files, a test file for every module."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import abliterate

ROOT = Path(abliterate.__file__).parent
TESTS = Path(__file__).parent

ORDER = (
    "errors", "extras", "progress", "projection", "data", "storage", "parallel", "quantization", "checkpoints", "hub",
    "architectures", "prompts", "replies", "models", "activations", "interventions", "directions", "edits", "search",
    "proofs", "evaluation", "exports", "records", "training", "studies", "pipeline", "report", "chat", "lab", "commands", "cli",
    "__main__",
)  # fmt: skip
"""Rooms from the top down: each may import those before it (and files of its own room). See docs/layout.md."""

FILES = sorted(path for path in ROOT.rglob("*.py"))
MODULES = [path for path in FILES if path.name != "__init__.py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = ("abliterate", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


KNOWN = {module_of(path) for path in FILES}


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return everything in a file: several laws ask for the same one."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imports(path: Path) -> frozenset[str]:
    """Return every module of the package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "abliterate":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in KNOWN else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.split(".")[0] == "abliterate")
    return frozenset(found)


def test_every_room_is_on_the_plan() -> None:
    assert {room(path) for path in FILES} - {"__init__"} <= set(ORDER)


def test_the_root_holds_a_handful_of_files_and_rooms_are_few() -> None:
    assert len(list(ROOT.glob("*.py"))) <= 6
    assert len({path.parent for path in FILES if room(path) != "studies"} - {ROOT}) <= 29


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_upwards(path: Path) -> None:
    if path.parent == ROOT and path.name == "__init__.py":
        return
    own = ORDER.index(room(path))
    rooms = {name.split(".")[1] for name in imports(path) if "." in name}
    assert not {name for name in rooms if ORDER.index(name) > own}


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module_of(path): imports(path) - {module_of(path)} for path in FILES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*above, module))
            done.add(module)

    for module in sorted(graph):
        if module != "abliterate":
            visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= 400
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, node.name


@pytest.mark.parametrize("path", [path for path in FILES if room(path) != "cli"], ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    assert "print" not in {node.id for node in nodes(path) if isinstance(node, ast.Name)}


def test_public_names_are_sorted_and_there() -> None:
    assert list(abliterate.__all__) == sorted(abliterate.__all__)
    for name in abliterate.__all__:
        assert getattr(abliterate, name).__doc__


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_has_its_tests(path: Path) -> None:
    """`tests/<room>/test_<file>.py` holds a test, and takes something from the module that it is named after."""
    tests = TESTS / path.relative_to(ROOT).parent / f"test_{path.stem.strip('_')}.py"
    assert tests.is_file(), f"write {tests.relative_to(TESTS.parent)}"
    assert any(isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in nodes(tests))
    assert module_of(path) in imports(tests), f"{tests.name} takes nothing from {module_of(path)}"
