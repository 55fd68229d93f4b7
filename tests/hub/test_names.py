"""Names on the Hub are no paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.hub.download import download
from abliterate.hub.names import (
    cached_name,
    hub_name,
    is_hub_name,
    is_path,
    is_plain_revision,
    is_recorded_name,
    public_name,
    shown_name,
)

PATHS = (
    "../x",
    "./x",
    ".hidden/x",
    "x/..",
    "x/.",
    "x/.git",
    "/x/y",
    "~/x",
    "a/b/c",
    "x",
    "",
    "-x/y",
    "x/-y",
    "a/b\n",
    "\uff0e\uff0e/x",
)


@pytest.mark.parametrize("text", ["org/name", "Qwen/Qwen3-4B-Instruct-2507", "me/a.b_c", "0-hero/x", "_a/b"])
def test_names(text: str) -> None:
    assert is_hub_name(text)


@pytest.mark.parametrize("text", [*PATHS, None, 3, ["org/name"]])
def test_what_is_no_name(text: object) -> None:
    assert not is_hub_name(text)


@pytest.mark.parametrize(("text", "plain"), [
    ("0123456789abcdef0123456789abcdef01234567", True), ("main", True), ("v1.0", True),
    *((one, False) for one in (*PATHS[:-1], "../../.ssh/authorized_keys", "refs/../x", "a..b", None, 3) if one != "x"),
])  # fmt: skip
def test_a_revision_is_no_path(text: object, plain: bool) -> None:
    assert is_plain_revision(text) == plain


@pytest.mark.parametrize("revision", ["../../.ssh/authorized_keys", "refs/../../x", "/etc/passwd", "..", "."])
def test_nothing_is_fetched_at_a_revision_that_is_a_path(revision: str) -> None:
    assert is_path(revision)
    with pytest.raises(InputError, match="is no revision; give a branch, a tag or a commit"):
        download("org/name", revision, offline=True)


@pytest.mark.parametrize("revision", ["main", "refs/pr/3", "feature/x", "v1..2"])
def test_branches_may_have_slashes(revision: str) -> None:
    assert not is_path(revision)


@pytest.mark.parametrize(("text", "named"), [
    ("org/name", "org/name"), ("gpt2", "gpt2"), ("org/name@v1.0", "org/name@v1.0"), ("gpt2@main", "gpt2@main"),
    ("org/name@refs/pr/1", "org/name@refs/pr/1"),
    *((f"{scheme}{host}/org/name{end}", "org/name")
      for scheme in ("https://", "http://", "HTTPS://", "") for host in ("huggingface.co", "hf.co", "HF.co")
      for end in ("", "/", "?library=transformers", "#usage")),
    ("https://huggingface.co/gpt2", "gpt2"), ("https://huggingface.co/org/name/tree/main/", "org/name@main"),
    ("hf.co/org/name/tree/refs%2Fpr%2F1", "org/name@refs/pr/1"),
])  # fmt: skip
def test_what_people_write(text: str, named: str) -> None:
    found = hub_name(text)
    assert str(found) == named
    assert hub_name(named) == found, "what is shown can be typed"


@pytest.mark.parametrize("text", [
    *(one for one in PATHS if one != "x"), "org/name@", "@main", "https://example.com/org/name",
    "https://huggingface.co/", "https://huggingface.co/datasets/org/name", "https://huggingface.co/org/name/blob/main/x",
    "ftp://huggingface.co/org/name", "huggingface.co", "https://huggingface.co.evil.com/org/name",
    "https://huggingface.co/org/name/tree/", "https://huggingface.co/../x", "https://me@huggingface.co/org/name",
])  # fmt: skip
def test_what_names_nothing_on_the_hub(text: str) -> None:
    assert hub_name(text) is None


def test_a_mirror_is_known_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub_name("https://mirror.example/org/name") is None
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert str(hub_name("https://mirror.example/org/name")) == "org/name"


def test_two_revisions_are_one_or_an_error() -> None:
    named, plain = hub_name("org/name@x"), hub_name("org/name")
    assert named is not None
    assert plain is not None
    assert (named.at(None), named.at("x"), plain.at("x"), plain.at(None)) == ("x", "x", "x", None)
    with pytest.raises(InputError, match="org/name@x: its name says x, and --revision y; give one of the two"):
        named.at("y")


def test_names_for_people_and_for_records(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for one in (str(folder), f"{folder}/../mine/"):
        assert shown_name(one) == public_name(one) == "mine"
    assert shown_name("hf.co/org/name/tree/x") == "org/name@x"
    assert public_name("hf.co/org/name/tree/x") == public_name("org/name") == "org/name"


@pytest.mark.parametrize(("folder", "named"), [
    ("x/models--org--name/snapshots/607a30d", "org/name@607a30d"), ("models--gpt2/snapshots/607a30d", "gpt2@607a30d"),
    ("models--org--a--b/snapshots/1", "org/a--b@1"), ("models--org--name/refs/main", None), ("org/name", None),
    ("datasets--org--name/snapshots/1", None), ("models--../snapshots/1", None),
])  # fmt: skip
def test_a_folder_of_the_hubs_cache_has_a_name_there(folder: str, named: str | None) -> None:
    found = cached_name(Path(folder))
    assert (None if found is None else str(found)) == named


@pytest.mark.parametrize(("name", "revision", "known"), [
    ("org/name", None, True), ("gpt2", "607a30d", True), ("tiny-chat", None, False), ("../x", "main", False), (None, None, False),
])  # fmt: skip
def test_a_record_names_one_word_only_beside_its_commit(name: object, revision: object, known: bool) -> None:
    assert is_recorded_name(name, revision) == known
