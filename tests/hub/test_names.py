"""Names on the Hub are no paths."""

from __future__ import annotations

import pytest

from abliterate.errors import InputError
from abliterate.hub.download import download
from abliterate.hub.names import is_hub_name, is_path, is_plain_revision

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
