"""What all studies print."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from abliterate.cli.studies import closing, plain_table, study_json, verdict_table
from abliterate.studies.common import Verdict
from abliterate.studies.record import StudyRecord

VERDICT = Verdict(
    "open and question differ", "0.31 [0.2, 0.4]", "floor 0.5", "unrelated", "They have nothing in common."
)


def printed(*parts: object) -> str:
    console = Console(width=200, record=True, file=None)
    with console.capture() as said:
        for part in parts:
            console.print(part)
    return said.get()


def test_brackets_of_intervals_are_no_markup() -> None:
    said = printed(verdict_table([VERDICT]), plain_table(["a"], [["[0.1, 0.2]"]]))
    assert "0.31 [0.2, 0.4]" in said
    assert "[0.1, 0.2]" in said


def test_sentences_notes_and_the_place_close_a_study() -> None:
    record = StudyRecord("positions", "m", None, "float32", {}, 0, verdicts=(VERDICT,), notes=("few [phrases]",))
    said = printed(*closing(record, Path("out/positions.json")))
    assert said.splitlines() == ["They have nothing in common.", "note: few [phrases]", "out/positions.json"]
    assert study_json(record, None)["path"] is None
