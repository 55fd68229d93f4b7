"""How to repeat the run."""

from __future__ import annotations

import shlex

from abliterate.report.load import Gathered
from abliterate.report.sections.repeat import words


def test_the_command_is_one_that_a_shell_takes(whole: Gathered) -> None:
    shown = words(whole)
    assert shown is not None
    assert shlex.split(shown["command"]) == whole.manifest["command"]
