"""The protocol of progress: who wants none is one of its kind, and an error inside a step stays what it was."""

from __future__ import annotations

import pytest

from abliterate.progress import SILENT, Progress


def test_silence_is_progress_too() -> None:
    assert isinstance(SILENT, Progress)
    assert not isinstance(object(), Progress)
    with SILENT.step("nothing", 3, "prompts") as advance:
        assert advance(2) is None  # type: ignore[func-returns-value]


def test_an_error_inside_a_step_comes_out() -> None:
    with pytest.raises(ZeroDivisionError), SILENT.step("nothing", 1, "B"):
        raise ZeroDivisionError
