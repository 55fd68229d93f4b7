"""The command."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from abliterate.cli.app import app
from abliterate.cli.phases import counts
from abliterate.pipeline.study_options import StudyOptions
from abliterate.prompts.forms import load_forms
from abliterate.studies.phases.outcomes import Outcomes
from fixtures.tiny_chat import TINY

OPTIONS = StudyOptions(model=str(TINY), phrases="builtin:phrases-tiny", only=("question", "reply-open"), samples=0)


@pytest.mark.slow
def test_the_command_prints_outcomes_and_verdicts() -> None:
    asked = ["phases", str(TINY), "--phrases", "builtin:phrases-tiny", "--quick", "--samples", "0", "--vector", "dim"]
    result = CliRunner().invoke(app, [*asked, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["study"] == "phases"
    assert {one["verdict"] for one in found["verdicts"]} == {"quick: no verdicts"}


def test_counts_are_of_each_outcome() -> None:
    assert counts(Outcomes(load_forms()["question"], ("refuses", "answers"), ("a", "a"), (True, False))) == [
        "1/2",
        "1/2",
        "0/2",
    ]
