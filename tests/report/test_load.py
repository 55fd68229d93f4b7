"""The report page as a file: what it refuses to be written from, and that only its own scripts may run in it."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.report import format as text
from abliterate.report.load import tidy
from abliterate.report.page import write_report
from fixtures.report_records import HOSTILE, changed, evaluation, folder_of, manifest, observations, rate


class Scripts(HTMLParser):
    """Collects the policy and the content of each script element."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.kinds, self.texts = "", [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        if held.get("http-equiv") == "Content-Security-Policy":
            self.policy = held["content"] or ""
        if tag == "script":
            self.kinds.append(held.get("type"))
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.texts[-1] += data


def test_the_policy_names_the_scripts_that_are_there_and_nothing_else(tmp_path: Path) -> None:
    hostile = changed(observations(), ["replies", "edited", "harmful", 0, "reply"], HOSTILE)
    page = write_report(folder_of(tmp_path, manifest(), hostile)).read_text(encoding="utf-8")
    found = Scripts()
    found.feed(page)
    assert found.kinds == ["application/json", None, None]
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found.texts[1:]]
    assert found.policy.split("; ")[:2] == [
        "default-src 'none'",
        f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'",
    ]
    assert found.texts[0].isascii()
    assert not set("<>&") & set(found.texts[0])
    held = json.loads(found.texts[0])
    assert held["explorers"][0]["pairs"][0]["replies"][1]["text"] == HOSTILE


def test_the_page_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, manifest())
    (folder / "report.html").write_text("old")
    assert write_report(folder) == folder / "report.html"
    assert "house/chat" in (folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    assert write_report(folder, tmp_path / "elsewhere" / "page.html").is_file()
    assert {path.name for path in tmp_path.rglob("*")} == {"abliterate.json", "report.html", "elsewhere", "page.html"}
    assert (folder / "report.html").read_bytes() == (tmp_path / "elsewhere" / "page.html").read_bytes()
    assert (folder / "report.html").stat().st_size < 5.5e6


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, manifest())
    with pytest.raises(InputError, match=r"cannot be written .*; choose another place with --out"):
        write_report(folder, tmp_path / "missing" / "page.html")
    (tmp_path / "page.html").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(folder, tmp_path / "page.html")
    assert {path.name for path in tmp_path.iterdir()} == {"abliterate.json", "page.html"}
    with pytest.raises(InputError, match=r"give it a name that ends in \.html"):
        write_report(folder, tmp_path / "abliterate.json")


def test_a_folder_that_abliterate_did_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it was not written by abliterate"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("manifest", ["tensors"], None, "abliterate.json: tensors should be a list, not null"),
        ("manifest", ["proof", "holds"], 1, "abliterate.json: proof.holds should be true or false, not a whole number"),
        ("manifest", ["search", "chosen"], 3, "abliterate.json: search.chosen is 3, not one of the points"),
        ("manifest", ["recipe", "strengths", "mlp"], "1", "strengths.mlp should be a number, not text"),
        ("observations", ["format"], 2, "observations.json: has format 2, this version reads 1"),
        ("observations", ["pca"], {}, "observations.json: pca.position is missing"),
        ("observations", ["candidates", 2, "layer"], True, "candidates\\[2\\].layer should be a whole number, not true or false"),
        ("observations", ["separation", "auc", 1], [0.5], "separation.auc should have a row for each position"),
        ("observations", ["pca", "layers", 1, "harmful"], [[1.0, 2.0]], "pca.layers\\[1\\].harmful should have two numbers for each"),
        ("observations", ["pca", "layers", 1, "explained"], [1.0], "pca.layers\\[1\\].explained should have two numbers"),
        ("observations", ["replies", "edited", "harmful", 4, "prompt"], "other", "replies, harmful should be to the same prompts"),
        ("evaluation", ["sets", "harmful", "model", "refused", "count"], 1.5, "sets.harmful.model.refused.count should be a whole number, not a number"),
        ("evaluation", ["by_length", 0, "harmful"], 3, "by_length\\[0\\].harmful should be an object, not a whole number"),
        ("evaluation", ["figures"], [], "evaluation.json: figures should be an object, not a list"),
        ("evaluation", ["replies", "against", "harmless"], [], "replies, harmless should be to the same prompts"),
    ],
)  # fmt: skip
def test_a_malformed_record_is_named_with_the_place(
    tmp_path: Path, name: str, place: list[Any], value: object, message: str
) -> None:
    records = {"manifest": manifest(), "observations": observations(), "evaluation": evaluation()}
    records[name] = changed(records[name], place, value)
    with pytest.raises(InputError, match=message) as raised:
        write_report(folder_of(tmp_path, records["manifest"], records["observations"], records["evaluation"]))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "report.html").exists()


def test_a_record_that_is_no_json_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, manifest())
    for wrong, message in (("{", "cannot be read"), ("[]", "the file should be an object, not a list")):
        (folder / "observations.json").write_text(wrong)
        with pytest.raises(InputError, match=f"observations.json: {message}"):
            write_report(folder)


def test_figures_read_as_in_print() -> None:
    shown = [text.number_html(value) for value in (0, 1, 0.29144, -0.002, 7.1e-5, 12345.6, None)]
    assert [one.replace(text.TIED, " ") for one in shown] == ["0", "1", "0.291", "−0.002", "7.1 × 10⁻⁵", "12,346", "–"]
    assert [text.share_html(value) for value in (0.0, 1.0, 0.0322, None)] == ["0%", "100%", "3.2%", "–"]
    assert text.rate_html(rate(0, 42)).replace(text.TIED, " ") == "0/42 = 0% [0%, 8.4%]"
    assert text.estimate_html(None) == "–"
    assert tidy({"a": [float("nan"), 1.0], "b": float("inf")}) == {"a": [None, 1.0], "b": None}


@pytest.mark.parametrize("refused", [-1, 31, 10**20])
def test_no_more_prompts_are_refused_than_there_were(tmp_path: Path, refused: int) -> None:
    hostile = manifest()
    hostile["search"]["original"]["refusals"] = refused
    with pytest.raises(InputError, match=r"search.original.refusals should be from 0 to the number of prompts, 30"):
        write_report(folder_of(tmp_path, hostile))
    hostile = manifest() | {
        "trials": [{"layer": 1, "position": -1, "strength": 1.0, "refused": refused, "prompts": 30}]
    }
    with pytest.raises(InputError, match=r"trials\[0\].refused should be from 0 to the number of prompts, 30"):
        write_report(folder_of(tmp_path, hostile))
