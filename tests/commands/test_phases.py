"""The whole study on the bundled model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.commands.phases import phases
from abliterate.errors import InputError
from abliterate.pipeline.study_options import StudyOptions
from abliterate.studies.phases.options import PhasesOptions
from abliterate.studies.record import read_study
from fixtures.tiny_chat import TINY

OPTIONS = StudyOptions(model=str(TINY), phrases="builtin:phrases-tiny", only=("question", "reply-open"), samples=0)


@pytest.mark.slow
def test_a_layer_out_of_range_and_the_model_as_its_own_original_are_refused() -> None:
    with pytest.raises(InputError, match=r"--against .*: is MODEL itself"):
        phases(OPTIONS, PhasesOptions(against=str(TINY)))
    with pytest.raises(InputError, match="--layer 99 is out of range; this model has layers 1 to 7"):
        phases(OPTIONS, PhasesOptions(layer=99))


def test_what_was_kept_of_the_original_goes_when_the_study_has_finished(tmp_path: Path, cache: Path) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(TINY, edited)
    options = replace(OPTIONS, model=str(edited), only=("raw-open",), quick=True, device="cpu")
    one = phases(options, PhasesOptions(against=str(TINY), reply_tokens=8, count=8))
    assert one.found.before is not None
    assert not list((cache / "studies").iterdir())


@pytest.mark.slow
def test_the_tiny_model_refuses_what_is_asked_and_goes_on_with_what_is_begun(tmp_path: Path) -> None:
    one = phases(replace(OPTIONS, out=tmp_path), PhasesOptions(reply_tokens=48, judge="rules"))
    outcomes = one.found.outcomes
    assert outcomes["question"].table["refuses"].count >= 55
    assert sum(outcomes["reply-open"].continued) >= 50
    assert set(one.found.vectors) == {"dim", "optimised", "one-shot", "forward", "attribution"}
    assert one.found.detected is not None
    assert one.found.detected.neurons is not None
    assert one.found.detected.neurons.check.error <= 0.05
    assert one.found.effects is not None
    removed = {pair.own.vector: pair for pair in one.found.effects.controlled if pair.own.kind == "R1"}
    assert removed["dim"].beats
    assert removed["dim"].test.p < 0.05
    assert one.found.judged is not None
    assert one.found.judged.rules.segments > 20
    assert [pair.own.made_by for pair in one.found.effects.controlled if pair.own.kind == "R1"] == [None] * 5
    record = read_study(tmp_path / "phases.json")
    assert record.to_json() == one.record.to_json()
    rows = [json.loads(line) for line in (tmp_path / "phases-replies.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 60
    assert all(name in record.results for name in ("outcomes", "onset", "bars", "effects", "vectors"))
    assert not any(row["text"] in json.dumps(record.results) for row in rows if len(row["text"]) > 12)
