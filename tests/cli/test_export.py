"""What `export` shows of a file that it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from abliterate.cli.export import exported, exported_json
from abliterate.commands.export import Exported
from abliterate.exports.forms import EXPORT_FORMS


@pytest.mark.parametrize("form", EXPORT_FORMS)
def test_it_says_how_the_form_is_used(form: str, tmp_path: Path) -> None:
    console = Console(width=1000)
    with console.capture() as shown:
        console.print(exported(Exported(tmp_path / "out", form, 2_500_000, notes=("left out: embed",))))
    text = shown.get()
    assert f"{tmp_path / 'out'}, 2.5 MB" not in text or "2 MB" not in text
    assert EXPORT_FORMS[form].use.format(out=str(tmp_path / "out")) in text
    assert "note: left out: embed" in text


def test_the_result_as_json(tmp_path: Path) -> None:
    shown = exported_json(Exported(tmp_path, "adapter", 7))
    assert shown == {"out": str(tmp_path), "kind": "adapter", "bytes": 7, "proof": None, "notes": []}
