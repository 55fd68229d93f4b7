"""Datasets in folders and on the Hub: splits, slices and columns."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from abliterate.errors import InputError
from abliterate.prompts.prompt_set import load_prompts
from abliterate.prompts.sources import public_spec
from abliterate.prompts.stored_datasets import HUB_SPEC, as_folder, table_to_prompts
from fixtures.prompts import TEXTS

OTHERS = [f"Name a bridge of {place}" for place in range(20)]


@pytest.fixture
def table() -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{"id": place, "goal": text, "category": "towns"} for place, text in enumerate(OTHERS)]
    )


def test_a_saved_dataset_is_read_whole_or_in_slices(tmp_path: Path, table: datasets.Dataset) -> None:
    table.save_to_disk(str(tmp_path / "saved"))
    folder = tmp_path / "saved"
    assert load_prompts(str(folder)).prompts == tuple(OTHERS)
    assert load_prompts(f"{folder}/").prompts == tuple(OTHERS)
    assert load_prompts(f"{folder}:train[:9]").prompts == tuple(OTHERS[:9])
    assert load_prompts(f"{folder}:train[50%:]:goal").prompts == tuple(OTHERS[10:])
    assert load_prompts(f"{folder}:train[:4]+train[-4:]").prompts == tuple(OTHERS[:4] + OTHERS[-4:])
    assert load_prompts(str(folder)).categories == ("towns",)
    assert public_spec(f"{folder}:train[:9]:goal") == "saved:train[:9]:goal"
    with pytest.raises(InputError, match="no column 'text'; it has id, goal, category"):
        load_prompts(f"{folder}:train:text")


def test_of_several_splits_one_is_read(tmp_path: Path, table: datasets.Dataset) -> None:
    both = datasets.DatasetDict(train=table, test=datasets.Dataset.from_dict({"prompt": TEXTS}))
    both.save_to_disk(str(tmp_path / "both"))
    assert load_prompts(f"{tmp_path / 'both'}").prompts == tuple(OTHERS)
    assert load_prompts(f"{tmp_path / 'both'}:test").prompts == tuple(TEXTS)
    with pytest.raises(InputError, match=r"cannot be read \(.*\); check the split") as caught:
        load_prompts(f"{tmp_path / 'both'}:validation")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("broken", ["state.json", "dataset_info.json"])
def test_a_saved_dataset_that_is_broken_is_one_line(tmp_path: Path, table: datasets.Dataset, broken: str) -> None:
    table.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / broken).write_text("{" if broken == "state.json" else "[]")
    with pytest.raises(InputError, match="the saved dataset cannot be read") as caught:
        load_prompts(str(tmp_path / "saved"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("org/data", ("org/data", None, None)),
        ("org/data:train", ("org/data", "train", None)),
        ("org/data:train:goal", ("org/data", "train", "goal")),
        ("org/data:train[:400]", ("org/data", "train[:400]", None)),
        ("org/data:train[:10%]+test[5:]:goal", ("org/data", "train[:10%]+test[5:]", "goal")),
    ],
)
def test_a_name_on_the_hub_has_a_split_and_a_column(spec: str, parts: tuple[str, str | None, str | None]) -> None:
    found = HUB_SPEC.fullmatch(spec)
    assert found is not None
    assert (found["name"], found["split"], found["column"]) == parts


@pytest.mark.parametrize("spec", ["org/data:a:b:c", "org", "org/data:", "org/data:train[:400"])
def test_what_names_no_dataset_is_none(spec: str) -> None:
    assert HUB_SPEC.fullmatch(spec) is None


def test_a_folder_is_one_only_when_it_holds_a_dataset(tmp_path: Path) -> None:
    assert as_folder(str(tmp_path)) == (None, "", None)
    (tmp_path / "state.json").write_text("{}")
    assert as_folder(f"{tmp_path}:test[:5]:goal") == (tmp_path, "test[:5]", "goal")


def test_only_what_is_needed_of_a_table_is_read(table: datasets.Dataset) -> None:
    found = table_to_prompts("x", table.add_column("image", [[0.0] * 9] * 20), None)
    assert [str(one) for one in found] == OTHERS
