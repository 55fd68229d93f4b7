"""What an evaluation is asked for: contradictions are one line, before anything is loaded; its record names no folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.parallel.processes import Processes
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import Options

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
    monkeypatch.setattr(Processes, "launched", lambda: Processes(0, 2))
    EvaluateOptions().check(MODEL)
    with pytest.raises(InputError, match="run them without a launcher"):
        EvaluateOptions(endpoint="http://127.0.0.1:9").check(SERVED)
