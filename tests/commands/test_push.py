"""The verb that pushes."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.commands.push import push
from abliterate.errors import InputError
from abliterate.hub import push as upload


def test_a_repository_is_private_unless_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(upload, "push", lambda folder, name, *, public, progress: asked.append(public) or "page")
    assert push(tmp_path, "me/x") == "page"
    push(tmp_path, "me/x", public=True)
    assert asked == [False, True]


def test_any_other_folder_is_refused_before_the_hub_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a finished checkpoint"):
        push(tmp_path, "me/x")
