"""The manifest: hashes of what an edit was made from, and what of a folder is read."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.source import resolve
from abliterate.parallel.devices import hardware
from abliterate.pipeline.run import Result
from abliterate.progress import SILENT
from abliterate.prompts.chat_format import template_digest
from abliterate.records.manifest import check_source, hashes, json_text, part, read_manifest
from abliterate.storage.names import MANIFEST
from fixtures.tiny_chat import TINY


def test_hashes_are_those_of_the_weight_files() -> None:
    name = "model.safetensors"
    assert hashes(resolve(str(TINY))) == {name: hashlib.sha256((TINY / name).read_bytes()).hexdigest()}
    assert template_digest("é") == hashlib.sha256("é".encode()).hexdigest()


def test_another_original_is_refused_and_where_it_lies_does_not_matter(result: Result, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(TINY, tmp_path / "elsewhere"))
    check_source(result.out, result.manifest["source"], resolve(str(copied)), SILENT)
    with pytest.raises(InputError, match=r"was not made from .*, whose weights are others; its abliterate\.json names"):
        check_source(result.out, result.manifest["source"], resolve(str(result.out)), SILENT)
    made_from = {**result.manifest["source"], "revision": "abc", "files": {}}
    with pytest.raises(InputError, match="names tiny-chat at --revision abc"):
        check_source(result.out, made_from, resolve(str(copied)), SILENT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no abliterate.json; it was not written by abliterate"),
        (b"{", r"abliterate\.json: cannot be read"),
        (b"\xff", r"abliterate\.json: cannot be read"),
        (b"[" * 100_000, r"abliterate\.json: cannot be read"),
        (b"[1]", r"abliterate\.json: expected a JSON object"),
    ],
    ids=["none", "torn", "no text", "deep", "a list"],
)
def test_what_is_no_manifest_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "abliterate.json").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record: dict[str, Any] = {"name": "ü\u2028", "numbers": [1, 0.1, 1e-9, None], "deep": {"a": True}}
    (tmp_path / "healed.json").write_text(json_text(record), encoding="utf-8")
    assert read_manifest(tmp_path, "healed.json") == record
    assert "ü" in json_text(record)
    assert json_text(record).endswith("}\n")


def test_the_manifest_names_what_decides_how_sums_are_rounded(result: Result) -> None:
    assert result.manifest["hardware"] == hardware(torch.device("cpu"))
    assert hardware(torch.device("cpu"))["threads"] == torch.get_num_threads()
    assert read_manifest(result.out) == json.loads(json.dumps(result.manifest))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("source", [], "source should be an object, not a list"),
        ("source", {"files": 3}, "source.files should be an object, not a whole number"),
        ("proof", "holds", "proof should be an object, not text"),
        ("proof", {"holds": 1}, "proof.holds should be true or false, not a whole number"),
        ("direction", {"layer": "4"}, "direction.layer should be a whole number, not text"),
        ("prompts", {"harmful": {"digest": False}}, "prompts.harmful.digest should be text, not true or false"),
        ("run", {"chat_template": []}, "run.chat_template should be an object, not a list"),
        ("edited_dtype", 3, "edited_dtype should be text, not a whole number"),
    ],
)
def test_what_is_read_of_a_manifest_is_of_its_kind(tmp_path: Path, field: str, value: object, problem: str) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({field: value}))
    with pytest.raises(InputError, match=re.escape(f"{MANIFEST}: {problem}; write the file again")):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({field: None}))
    assert part(read_manifest(tmp_path), field) == {}
