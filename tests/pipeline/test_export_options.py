"""What is exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.pipeline.export_options import ExportOptions, read_layers
from abliterate.pipeline.options import read_left_out


def test_sites_and_layers_are_read_by_commas() -> None:
    assert read_left_out("mlp,embed") == ("embed", "mlp")
    assert read_left_out("") == ()
    with pytest.raises(ValueError, match="choose among embed, attn, mlp"):
        read_left_out("embed,head")
    assert read_layers("3,14") == (3, 14)
    assert read_layers("") is None
    for text in ("x", "3,-1", "1.5"):
        with pytest.raises(ValueError, match="give whole numbers by commas"):
            read_layers(text)


def test_an_edit_is_a_folder_or_the_recipe_in_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    assert ExportOptions(tmp_path, "adapter").folder == tmp_path
    assert ExportOptions(tmp_path / "recipe.json", "adapter").folder == tmp_path
    assert ExportOptions(tmp_path, "adapter").manifest is None
    (tmp_path / "abliterate.json").write_text('{"seed": 3}')
    assert ExportOptions(tmp_path / "recipe.json", "adapter").manifest == {"seed": 3}
