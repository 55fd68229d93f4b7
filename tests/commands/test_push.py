"""The verb that pushes."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.commands.push import push
from abliterate.errors import InputError
from abliterate.hub import push as upload
from abliterate.pipeline.push_options import PushOptions


def test_a_repository_is_private_unless_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []
    monkeypatch.setattr(upload, "push", lambda folder, name, *, progress, **how: asked.append(how) or "page")
    assert push(tmp_path, "me/x") == "page"
    push(tmp_path, "me/x", PushOptions(public=True, commit_message="m", create_pr=True, revision="b"))
    assert asked == [
        {"public": False, "message": None, "create_pr": False, "revision": None},
        {"public": True, "message": "m", "create_pr": True, "revision": "b"},
    ]
    with pytest.raises(InputError, match="--commit-message: is empty"):
        push(tmp_path, "me/x", PushOptions(commit_message=""))


def test_any_other_folder_is_refused_before_the_hub_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a finished checkpoint"):
        push(tmp_path, "me/x")
