"""What an evaluation is asked for: contradictions are one line, before anything is loaded; its record names no folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.evaluation.judges.judge import RuleJudge
from abliterate.parallel.processes import Processes
from abliterate.pipeline import evaluate_options as module
from abliterate.pipeline.evaluate_options import HARMFUL, EvaluateOptions
from abliterate.pipeline.options import Options
from abliterate.prompts.prompt_set import load_prompts

MODEL = Options("some/model", Path())
SERVED = Options("", Path())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"endpoint": "http://127.0.0.1:9"}, "give one of the two"),
        ({"judge": "org/x", "judge_endpoint": "http://127.0.0.1:9"}, "one judge decides"),
        ({"judge_model": "x"}, "--judge-model names a model on a server; add --judge-endpoint URL"),
        ({"served_model": "x"}, "--served-model names a model on a server; add --endpoint URL"),
        ({"reply_tokens": 0}, "--reply-tokens 0: give a number from 1 up"),
        ({"n_prompts": -1}, "--n-prompts -1: give a number from 1 up"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(asked: dict[str, Any], message: str) -> None:
    EvaluateOptions().check(MODEL)
    with pytest.raises(InputError, match=message):
        EvaluateOptions(**asked).check(MODEL)


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        ({"text": Path("x.txt")}, {}, "--endpoint gives replies only"),
        ({"tasks": ("arc",)}, {}, "--endpoint gives replies only"),
        ({}, {"thinking": "off"}, "the server applies the chat template"),
        ({}, {"chat_template": Path("x.jinja")}, "the server applies the chat template"),
        ({"endpoint": None}, {}, "evaluate needs a MODEL, or --endpoint URL"),
    ],
    ids=str,
)
def test_a_server_gives_replies_in_its_own_template(
    asked: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    served = EvaluateOptions(endpoint="http://127.0.0.1:9")
    served.check(SERVED)
    with pytest.raises(InputError, match=message):
        replace(served, **asked).check(replace(SERVED, **options))


def test_a_launcher_shares_no_server_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Launched:
        @staticmethod
        def launched() -> Processes:
            return Processes(0, 2)

    monkeypatch.setattr(module, "Processes", Launched)
    EvaluateOptions().check(MODEL)
    with pytest.raises(InputError, match="run them without a launcher"):
        EvaluateOptions(endpoint="http://127.0.0.1:9").check(SERVED)


def test_the_record_says_what_was_asked_and_not_where_it_lies(tmp_path: Path) -> None:
    path, template = tmp_path / "mine.txt", tmp_path / "mine.jinja"
    path.write_text("\n".join(f"Name river {number}." for number in range(12)))
    template.write_text("{{ messages }}")
    options = replace(MODEL, harmful=str(path), chat_template=template, system="Be brief.")
    whole = load_prompts(str(path))
    asked = EvaluateOptions(look_alikes=None, text=tmp_path / "text.txt", n_prompts=5)
    record = asked.record(options, RuleJudge(), {HARMFUL: whole.first(5)})
    assert str(tmp_path) not in json.dumps(record)
    assert record["prompts"] == {
        HARMFUL: {"spec": "mine.txt", "digest": whole.first(5).digest, "count": 5, "list": whole.digest}
    }
    assert record["chat_template"]["file"] == "mine.jinja"
    assert (record["system"], record["served"], record["text"]) == ("Be brief.", False, "text.txt")
    template.write_text("{{ messages }} ")
    assert asked.record(options, RuleJudge(), {})["chat_template"]["digest"] != record["chat_template"]["digest"]
