"""Features on the tiny model, from options to the record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abliterate.commands.features import explain
from abliterate.commands.report import report
from abliterate.errors import AbliterateError
from abliterate.pipeline.corpus_options import CorpusOptions
from abliterate.pipeline.run import Result
from abliterate.studies.features.options import ExplainOptions
from abliterate.studies.record import read_study
from fixtures.features import random_sae, sparsify
from fixtures.tiny_chat import TINY
from servers.chat_server import ChatServer

CORPUS = (str(TINY / "harmful.txt"), str(TINY / "harmless.txt"))


def options(**changes: object) -> CorpusOptions:
    given = {"device": "cpu", "dtype": "float32", "corpus": CORPUS, "texts": 40, "reply_tokens": 6, **changes}
    return CorpusOptions(str(TINY), **given)  # type: ignore[arg-type]


@pytest.fixture
def directions_file(tmp_path: Path) -> Path:
    rows = torch.nn.functional.normalize(torch.randn(2, 160, generator=torch.Generator().manual_seed(1)), dim=1)
    save_file({"resid.3": rows[0], "resid.5": rows[1]}, tmp_path / "directions.safetensors")
    return tmp_path / "directions.safetensors"


def test_an_sae_is_explained_and_recorded(tmp_path: Path, cache: Path) -> None:
    random_sae(160, 24, layer=5).save(tmp_path / "sae")
    one = explain(options(out=tmp_path / "out"), ExplainOptions(sae=str(tmp_path / "sae"), words=4))
    assert one.path == tmp_path / "out" / "features.json"
    held = read_study(one.path)
    assert held.results["kind"] == "explain"
    assert held.settings["corpus"] == ["harmful.txt", "harmless.txt"]
    assert held.settings["rows"] == "sae"
    assert str(tmp_path) not in one.path.read_text()
    assert len(held.results["rows"]) + held.settings["dead"] == 24
    assert not one.path.parent.joinpath("features.safetensors").exists()


def test_a_folder_of_sparsify_is_explained_as_one_of_saelens(tmp_path: Path, cache: Path) -> None:
    sae = random_sae(160, 24, layer=5)
    sae.save(tmp_path / "sae")
    theirs = sparsify(tmp_path, sae)
    one, other = (explain(options(), ExplainOptions(sae=str(folder), words=4)) for folder in (tmp_path / "sae", theirs))
    assert other.record.settings["layers"] == [5]
    assert other.record.results["rows"] == one.record.results["rows"]


def test_some_rows_of_a_file_with_words_of_one_s_own(tmp_path: Path, directions_file: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("sorry cannot help\nkettle\nbread boat\n")
    chosen = ExplainOptions(sae=str(directions_file), row=("resid.5", "resid.3"), vocabulary=words, words=2)
    one = explain(options(), chosen)
    assert one.path is None
    assert one.record.settings["vocabulary"] == 6
    assert sorted(row["row"] for row in one.record.results["rows"]) == ["resid.3", "resid.5"]


def test_a_served_model_names_the_rows(directions_file: Path, tmp_path: Path, cache: Path) -> None:
    with ChatServer(lambda request: "\x1b[31mRequests\nto be cut") as server:
        chosen = ExplainOptions(sae=str(directions_file), words=2, judge_endpoint=server.url)
        one = explain(options(out=tmp_path / "out"), chosen)
        assert one.record.settings["named_by"] == "served tiny"
    assert {row["name"] for row in one.record.results["rows"]} == {"[31mRequests"}
    assert len(server.requests) == 2
    assert all("tokens: (not" not in asked and "\n- " in asked for asked in server.asked)
    assert one.path is not None
    assert server.url not in one.path.read_text()


def test_a_server_that_is_not_there_is_told_before_a_model_is_opened(directions_file: Path, cache: Path) -> None:
    chosen = ExplainOptions(sae=str(directions_file), judge_endpoint="http://127.0.0.1:1")
    with pytest.raises(AbliterateError, match=r"127\.0\.0\.1:1"):
        explain(CorpusOptions("no/such/model"), chosen)
    with pytest.raises(AbliterateError, match="add --judge-endpoint"):
        explain(options(), ExplainOptions(sae=str(directions_file), judge_model="tiny"))


@pytest.mark.slow
def test_rows_that_an_edit_changed_are_told(result: Result, tmp_path: Path, cache: Path) -> None:
    random_sae(160, 24, layer=5).save(tmp_path / "sae")
    edit = Path(shutil.copytree(result.out, tmp_path / "edit"))
    one = explain(options(out=edit), ExplainOptions(sae=str(tmp_path / "sae"), words=4, edited=str(edit)))
    changed = one.record.results["changed"]
    assert 0 < len(changed) <= 20
    assert changed[0]["before"] != changed[0]["after"]
    assert changed[0]["p"] < 0.05
    assert one.record.settings["edited"] == "edit"
    page = report(edit, tmp_path / "page.html").read_text()
    assert 'id="features"' in page
    assert "Rows whose activity the edit changed most" in page
    assert 'id="proof"' in page  # the page of the edit, with the study in it
    same = explain(options(), ExplainOptions(sae=str(tmp_path / "sae"), words=4, edited=str(TINY)))
    assert all(row["difference"] == 0 and row["p"] == 1 for row in same.record.results["changed"])


def test_rows_of_no_layer_cannot_be_told_to_have_changed(tmp_path: Path, cache: Path) -> None:
    save_file({"learned": torch.ones(160)}, tmp_path / "learned.safetensors")
    with pytest.raises(AbliterateError, match="--edited: the rows are of no layer"):
        explain(options(), ExplainOptions(sae=str(tmp_path / "learned.safetensors"), edited=str(TINY)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sae": None}, "--sae is missing"),
        ({"sae": "no/such/folder/here"}, "no/such"),
        ({"sae": "none.safetensors"}, "cannot be read"),
        ({"vocabulary": Path("none.txt")}, "--vocabulary none.txt: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(directions_file: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(AbliterateError, match=said):
        explain(options(offline=True), ExplainOptions(**{"sae": str(directions_file), **changes}))  # type: ignore[arg-type]
