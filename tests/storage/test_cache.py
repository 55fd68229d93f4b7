"""The cache folder: the one that is named, else in the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.storage.cache import cache_folder


def test_the_folder_that_is_named_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("ABLITERATE_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "abliterate"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / "home" / ".cache" / "abliterate"
    assert not list(tmp_path.iterdir())  # to ask makes no folder
