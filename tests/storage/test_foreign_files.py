"""Files of somebody else: only files are opened, and JSON that cannot be held is one short line."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from abliterate.storage.foreign_files import (
    MAX_DEPTH,
    open_foreign,
    parse_json,
    read_foreign,
    read_json,
    require_file,
    require_files,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes and devices in folders")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": [1, 2.5, null, "ö", "\\u00f6", "\\ud83d\\ude00"]}', encoding="utf-8")
    assert read_json(path) == {"a": [1, 2.5, None, "ö", "ö", "😀"]}
    with open_foreign(path, buffering=0) as file:
        assert file.read() == read_foreign(path) == path.read_bytes()
    (tmp_path / "link.json").symlink_to(path)
    assert read_json(tmp_path / "link.json") == read_json(path)
    require_file(tmp_path / "link.json")


def test_a_pipe_a_socket_and_a_device_are_refused_at_once(pipe: Path, tmp_path: Path) -> None:
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="pipe is a pipe, not a file; take it away"):
        open_foreign(pipe)
    with pytest.raises(OSError, match="pipe is a pipe"):
        require_file(pipe)
    with pytest.raises(OSError, match="zeros is a device"):
        read_json(tmp_path / "zeros")
    with pytest.raises(OSError, match="pipe is a pipe"):
        require_files(tmp_path)
    pipe.unlink()
    with pytest.raises(OSError, match="zeros is a device"):
        require_files(tmp_path)
    (tmp_path / "zeros").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="s is a socket"):
            require_files(tmp_path)


def test_links_to_nothing_and_folders_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    require_files(tmp_path)
    for name, kind in (("link", FileNotFoundError), ("nothing", FileNotFoundError), ("folder", IsADirectoryError)):
        with pytest.raises(kind):
            require_file(tmp_path / name)
        with pytest.raises(kind):
            read_foreign(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "too deeply"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "too deeply"),
        (b'{"a":' * 100_000, "too deeply"),
        (b"9" * 5000, "a number of 5000 digits"),
        (b"1" + b"0" * 400, "a number of 401 digits"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\ud800": 1}', "half of a surrogate pair"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "Expecting value"),
        (b"{'a': 1}", "Expecting property name"),
    ],
)
def test_json_that_cannot_be_held(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_json(content)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


def test_json_that_can_be_held() -> None:
    for value in (10**99, -1.5e308, [[[]]], "\x00\\u", {"deep": json.loads("[" * 190 + "]" * 190)}):
        assert parse_json(json.dumps(value)) == value


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 11)
    assert len(read_foreign(tmp_path / "long", 11)) == 11
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_foreign(tmp_path / "long", 10)
