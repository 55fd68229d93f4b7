"""The site, built as readers see it: strictly, without a network, with every flag and every public name."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer

import abliterate
from abliterate.cli.app import app

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow  # the site takes as long to build as it takes CI, which builds it strictly


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_flags_and_public_names_are_all_there(site: Path) -> None:
    group: Any = typer.main.get_command(app)
    for verb, command in group.commands.items():
        page = (site / "verbs" / f"{verb}.html").read_text(encoding="utf-8")
        members = getattr(command, "commands", {verb: command}).values()
        for parameter in (parameter for one in members for parameter in one.params):
            name = parameter.opts[-1]
            assert (name if name.startswith("-") else parameter.metavar or name) in page, (verb, name)
    reference = (site / "reference.html").read_text(encoding="utf-8")
    for name in abliterate.__all__:
        one = getattr(abliterate, name)
        assert f'id="{one.__module__}.{one.__qualname__}"' in reference


def test_no_mark_is_left(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.search(r"<!-- (flags|files|verbs|public names|security)", page.read_text(encoding="utf-8")), page


class Loads(HTMLParser):
    """What a page makes a browser fetch; links that a reader may follow are none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next"):
            return
        self.found += [
            given.get(name) or "" for name in ("src", *(("href",) if tag == "link" else ())) if name in given
        ]


def test_the_site_asks_nothing_of_any_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        reader = Loads()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.found
        assert not [one for one in reader.found if "//" in one], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style
