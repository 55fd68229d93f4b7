"""What a user installs: the wheel holds every file of the package, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

import abliterate
from fixtures.folders import PROJECT

PLOTLY = "licenses/abliterate/report/assets/plotly.LICENSE"
BESIDE = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE", PLOTLY}
"""What the wheel says about itself."""


def tracked() -> list[str]:
    """Return the files of the repository, as git names them."""
    if not (PROJECT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("what belongs to the package is what git tracks: needs a clone and git")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tracked files alone: what an earlier build left in the checkout would get in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        if (PROJECT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, source / name)
    words = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(out), str(source)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    (built,) = out.iterdir()
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        held = set(archive.namelist())
    about = {name for name in held if name.split("/")[0].endswith(".dist-info")}
    assert held - about == {name for name in tracked() if name.startswith("abliterate/")}
    assert {name.split("/", 1)[1] for name in about} == BESIDE


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode("utf-8")
    head, body = text.split("\n\n", 1)
    assert "License-Expression: Apache-2.0" in head
    assert "License-File: LICENSE" in head
    assert "Description-Content-Type: text/markdown" in head
    assert body.strip() == (PROJECT / "README.md").read_text(encoding="utf-8").strip()


def test_the_package_says_its_names_and_its_version_without_importing_them() -> None:
    asked = "import abliterate, sys; print(abliterate.__version__, *dir(abliterate)); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    said, *names = done.stdout.split()
    assert said == version("abliterate") == abliterate.__version__
    assert names == sorted([*abliterate.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = abliterate.no_such_name  # type: ignore[attr-defined]
