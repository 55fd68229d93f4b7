"""Rows of any file, each with its layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abliterate.errors import InputError
from abliterate.studies.common import Verdict
from abliterate.studies.features.rows import read_rows, rows_of
from abliterate.studies.record import StudyRecord, write_study
from fixtures.features import random_sae

WIDE = 12


def written(path: Path, **rows: torch.Tensor) -> Path:
    save_file({name.replace("__", "/").replace("_", "."): row for name, row in rows.items()}, path)
    return path


def test_rows_of_a_run_are_in_the_order_of_their_layers(directions_file: Path) -> None:
    found = read_rows(directions_file, 160)
    assert found.layers == tuple(range(1, 9))
    assert found.names[0] == "resid.1"
    assert torch.allclose(found.vectors.norm(dim=1), torch.ones(8))
    some = found.some(found.named(["resid.5", "resid.2"]))
    assert some.layers == (5, 2)
    with pytest.raises(InputError, match=r"has no row resid.99; it has resid.1"):
        found.named(["resid.99"])


def test_rows_of_a_study_and_of_a_search(tmp_path: Path) -> None:
    record = StudyRecord("clusters", "house/chat", None, "float32", {}, 0, verdicts=(Verdict("a", "b", "c", "d", "e"),))
    write_study(tmp_path, record, {"question/2/resid.10": torch.ones(WIDE), "question/2/resid.9": torch.ones(WIDE)})
    found = read_rows(tmp_path / "clusters.safetensors", WIDE)
    assert found.names == ("question/2/resid.9", "question/2/resid.10")
    assert found.layers == (9, 10)
    learned = read_rows(written(tmp_path / "one.safetensors", learned=torch.ones(WIDE)), WIDE)
    assert learned.layers == (None,)
    assert read_rows(tmp_path / "one.safetensors", WIDE, 3).layers == (3,)


def test_what_has_no_direction_or_is_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="12 wide, and the model is 896"):
        read_rows(written(tmp_path / "a.safetensors", resid_1=torch.ones(WIDE)), 896)
    with pytest.raises(InputError, match=r"resid\.2 has no direction"):
        read_rows(written(tmp_path / "b.safetensors", resid_1=torch.ones(WIDE), resid_2=torch.zeros(WIDE)), WIDE)
    with pytest.raises(InputError, match=r"resid\.1 has no direction"):
        read_rows(written(tmp_path / "c.safetensors", resid_1=torch.full((WIDE,), torch.nan)), WIDE)
    with pytest.raises(InputError, match="3 and 12 wide"):
        read_rows(written(tmp_path / "d.safetensors", resid_1=torch.ones(WIDE), resid_2=torch.ones(3)), WIDE)
    with pytest.raises(InputError, match="holds no rows"):
        read_rows(written(tmp_path / "e.safetensors"), WIDE)
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path / "none.safetensors", WIDE)


def test_features_without_a_decoder_row_are_left_out() -> None:
    sae = random_sae()
    sae.decoder[3] = 0
    found = rows_of(sae, 4, "sae")
    assert len(found) == 19
    assert "3" not in found.names
    assert set(found.layers) == {4}
    assert torch.equal(found.vectors[3], sae.rows([4])[0])
