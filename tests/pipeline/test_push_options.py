"""What a push may be told."""

from __future__ import annotations

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.push_options import PushOptions


def test_a_push_is_private_and_goes_to_main_unless_it_is_said() -> None:
    assert PushOptions() == PushOptions(public=False, commit_message=None, create_pr=False, revision=None)
    PushOptions().check()
    PushOptions(commit_message="An edit", revision="refs/pr/3").check()


@pytest.mark.parametrize(("given", "message"), [
    ({"commit_message": " "}, "--commit-message: is empty"),
    ({"revision": ""}, "is no branch; give a name"),
    ({"revision": "../main"}, "is no branch; give a name"),
])  # fmt: skip
def test_what_says_nothing_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PushOptions(**given).check()
