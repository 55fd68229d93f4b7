"""Benchmarks, examples and tools are run by hand: what they take from the package must still be there."""

from __future__ import annotations

import ast
import json
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


NOTEBOOKS = sorted((PROJECT / "examples").glob("*.ipynb"))

FIRST_HOUR = {"quickstart", "layer_plot", "training_loop"}
"""Those that a newcomer opens first; the others take longer."""


def code_of(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name, marks=[] if path.stem in FIRST_HOUR else [pytest.mark.slow])
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs_from_top_to_bottom(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code_of(path), path.name, "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_holds_no_outputs(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"])]
