"""What is written whole: a file or a folder under its name, or nothing new there."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.storage.atomic import write_text_whole, written_whole


def test_a_file_is_old_until_it_is_new(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    target.write_text("old")
    with written_whole(target) as partial:
        partial.write_text("ne")
        assert target.read_text() == "old"
        assert partial.parent == target.parent, "a rename only within one file system"
        partial.write_text("new")
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("before", [None, "old"])
def test_an_error_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    target = tmp_path / "record.json"
    if before is not None:
        target.write_text(before)

    def torn() -> None:
        with written_whole(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torn()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == (
        [] if before is None else [("record.json", before)]
    )


def test_a_folder_is_there_with_all_that_it_holds_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def write(fails: bool) -> None:
        with written_whole(target) as partial:
            partial.mkdir()
            (partial / "config.json").write_text("{}")
            if fails:
                raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        write(True)
    assert list(tmp_path.iterdir()) == []
    write(False)
    assert [path.name for path in target.iterdir()] == ["config.json"]


def test_where_nothing_can_be_written_one_line_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone/page.html: cannot be written \(No such file or directory\); choose"):
        write_text_whole(tmp_path / "gone" / "page.html", "text")
    (tmp_path / "page.html").mkdir()
    (tmp_path / "page.html" / "inside").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_text_whole(tmp_path / "page.html", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
