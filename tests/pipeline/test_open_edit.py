"""Opening what a verb works on: each fact is derived once, and what cannot be opened is one line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from abliterate.checkpoints import checkpoint as checkpoint_module
from abliterate.edits import bias_sites as bias_sites_module
from abliterate.edits.plan import make_plan
from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.models import source as source_module
from abliterate.models.loading import load_model
from abliterate.pipeline import open_model as open_model_module
from abliterate.pipeline.load import load_run
from abliterate.pipeline.open_edit import EditFiles, open_edit
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.run import write_form
from abliterate.progress import SILENT
from abliterate.storage.staging import Staging
from fixtures.tiny_chat import options

WIDTH = 160
"""Of the tiny chat model's stream."""


def edit_in(folder: Path, recipe: Recipe, width: int = WIDTH) -> Path:
    """Write the files of an edit, as a run leaves them."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_json()))
    rows = torch.nn.functional.normalize(torch.randn(6, width, generator=torch.Generator().manual_seed(0)))
    save_file({f"resid.{layer}": row.clone() for layer, row in enumerate(rows)}, folder / "directions.safetensors")
    return folder


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is derived of a model: the empty one, the proof, the quantisation, the clones that bias sites need."""
    counts = Counter[str]()

    def count(module: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(module, name)

        def counted(*args: Any, **named: Any) -> Any:
            counts[name] += 1
            return original(*args, **named)

        monkeypatch.setattr(module, name, counted)

    count(source_module, "build_empty")
    count(checkpoint_module, "quantized_pairs")
    count(open_model_module, "require_proof")
    count(bias_sites_module, "tried_bias_sites")
    return counts


def test_an_edit_is_opened_with_its_original_and_its_plan(tmp_path: Path, derived: Counter[str]) -> None:
    folder = edit_in(tmp_path / "edit", Recipe.uniform(0.5, direction="resid.2"))
    given = options(tmp_path / "out")
    source = open_source(given)
    opened = open_edit(given, EditFiles.of(folder), SILENT, source)
    assert opened.model.source is source
    assert opened.model.empty is source.empty
    assert opened.model.proved is not None
    assert opened.model.proved.leak < 1e-5
    assert opened.plan.recipe == Recipe.load(folder / "recipe.json")
    assert set(opened.plan.edits) <= set(source.checkpoint.tensors)
    assert opened.notes == ()
    load_model(source)
    assert derived["build_empty"] == derived["require_proof"] == 1
    again = open_edit(given, EditFiles.of(folder / "recipe.json"))
    assert again.plan.digest == opened.plan.digest


def test_a_run_that_adds_derives_each_fact_once(tmp_path: Path, derived: Counter[str]) -> None:
    """Up to the adapter that is written: plan for the check, plan of the edit, and what the model is loaded with."""
    given = options(tmp_path / "out", mode="induce", save=("adapter",))
    loaded = load_run(given, SILENT)
    once = Counter(derived)
    assert once["build_empty"] == once["require_proof"] == 1
    layer = min(loaded.bias_sites)
    files = EditFiles.of(edit_in(tmp_path / "edit", Recipe.adding(1.0, layer)))
    for _ in range(3):
        plan = make_plan(files.recipe, files.basis, loaded.architecture, loaded.empty, loaded.source.checkpoint)
    assert plan.addition is not None
    assert derived == once, "no clone more, however many plans are made"
    with Staging.open(given.out, "test") as staging:
        assert write_form(loaded, plan, staging, SILENT) is None
    assert derived["build_empty"] == derived["require_proof"] == 1


def test_what_is_no_edit_of_this_model_is_one_line(tmp_path: Path) -> None:
    given = options(tmp_path / "out")
    recipe = Recipe.uniform(1.0, direction="resid.2")
    with pytest.raises(InputError, match=r"recipe\.json"):
        EditFiles.of(tmp_path)
    unnamed = EditFiles.of(edit_in(tmp_path / "unnamed", Recipe.uniform()))
    with pytest.raises(InputError, match=r'unnamed: names no direction; add one such as "resid.15"'):
        open_edit(given, unnamed)
    absent = EditFiles.of(edit_in(tmp_path / "absent", Recipe.uniform(direction="resid.40")))
    with pytest.raises(InputError, match=r"directions.safetensors: has no resid.40; it has resid.0"):
        open_edit(given, absent)
    wide = EditFiles.of(edit_in(tmp_path / "wide", recipe, width=WIDTH + 1))
    with pytest.raises(InputError, match=f"the direction has d_model {WIDTH + 1}, the model {WIDTH}"):
        open_edit(given, wide)
    (edit_in(tmp_path / "lost", recipe) / "directions.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        open_edit(given, EditFiles.of(tmp_path / "lost"))


@pytest.mark.parametrize("name", ["recipe.json", "directions.safetensors"])
def test_an_edit_is_no_link_out_of_its_folder(tmp_path: Path, name: str) -> None:
    """Both files are copied into what is exported or healed."""
    folder, secret = tmp_path / "edit", tmp_path / "secret"
    folder.mkdir()
    secret.write_text(json.dumps(Recipe.uniform(1.0).to_json()))
    (folder / "recipe.json").write_text(secret.read_text())
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../secret")
    for place in (folder, folder / "recipe.json"):
        with pytest.raises(InputError, match=rf"{name}: is a link out of the folder; put the file itself"):
            EditFiles.of(place)
    (folder / name).unlink()
    (folder / name).write_text(secret.read_text())
    assert EditFiles.of(folder).directions == folder / "directions.safetensors"
