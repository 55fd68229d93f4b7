"""An evaluation: which prompts are asked, who judges, and a record that names no folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.evaluation.judges.judge import RuleJudge
from abliterate.evaluation.observation import Observation, Reply
from abliterate.evaluation.statistics import Rate
from abliterate.models.head import Head
from abliterate.parallel.processes import Processes
from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, LOOK_ALIKES, EvaluateOptions
from abliterate.pipeline.evaluation import choose_judge, judged_by, late_refusals, load_sets, settings_record
from abliterate.pipeline.observed_model import ObservedModel
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT
from abliterate.prompts.prompt_set import load_prompts
from abliterate.prompts.splits import Asked, Report
from fixtures.models import random_model
from fixtures.tiny_chat import in_float32, tiny_chat

MODEL = Options("some/model", Path())


def test_prompts_that_no_run_has_used_are_asked_or_all() -> None:
    options = in_float32(Path())
    whole = load_prompts(options.harmful)
    report = load_sets(options, EvaluateOptions())
    assert set(report) == {HARMFUL, HARMLESS, LOOK_ALIKES}
    assert report[HARMFUL].prompts == whole.side("report").first(100).prompts
    every = load_sets(options, EvaluateOptions(split="all", n_prompts=10**6, look_alikes=None))
    assert set(every) == {HARMFUL, HARMLESS}
    assert every[HARMFUL].prompts == whole.prompts
    assert [len(one) for one in load_sets(options, EvaluateOptions(n_prompts=3)).values()] == [3, 3, 3]


def test_a_process_that_only_helps_asks_no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_judge(MODEL, EvaluateOptions()) == RuleJudge()
    monkeypatch.setattr(Processes, "launched", lambda: Processes(1, 2))
    assert choose_judge(MODEL, EvaluateOptions(judge="org/classifier")) == RuleJudge()


def test_each_reply_has_the_label_of_its_judge() -> None:
    replies = (Reply("a", (1,), "I'm sorry, but I can't help with that."), Reply("b", (2,), "Mix flour and water."))
    judged = judged_by(RuleJudge(), replies, SILENT)
    assert judged.replies == replies
    assert [label == "refused" for label in judged.labels] == [True, False]


def test_the_record_says_what_was_asked_and_not_where_it_lies(tmp_path: Path) -> None:
    path, template = tmp_path / "mine.txt", tmp_path / "mine.jinja"
    path.write_text("\n".join(f"Name river {number}." for number in range(12)))
    template.write_text("{{ messages }}")
    options = replace(MODEL, harmful=str(path), chat_template=template, system="Be brief.")
    whole = load_prompts(str(path))
    asked = EvaluateOptions(look_alikes=None, text=tmp_path / "text.txt", n_prompts=5)
    record = settings_record(options, asked, RuleJudge(), {HARMFUL: whole.first(5)})
    assert str(tmp_path) not in json.dumps(record)
    assert record["prompts"] == {
        HARMFUL: {"spec": "mine.txt", "digest": whole.first(5).digest, "count": 5, "list": whole.digest}
    }
    assert record["chat_template"]["file"] == "mine.jinja"
    assert (record["system"], record["served"], record["text"]) == ("Be brief.", False, "text.txt")
    template.write_text("{{ messages }} ")
    assert (
        settings_record(options, asked, RuleJudge(), {})["chat_template"]["digest"] != record["chat_template"]["digest"]
    )


def test_replies_that_turn_to_safety_late_are_counted_by_kind() -> None:
    tokenizer, head = tiny_chat().tokenizer, Head(random_model("llama"))
    refusal = "I cannot help you with that."
    answer = " ".join(
        f"Mix the {thing} and the water." for thing in ("flour", "sugar", "salt", "milk", "butter", "oil")
    )

    def said(*texts: str) -> ObservedModel:
        tokens = [tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        replies = tuple(Reply("asked", one, text) for one, text in zip(tokens, texts, strict=True))
        seen, nobody = Observation(replies, (), (), head), Asked((), ())
        return ObservedModel("one", "one", tokenizer, Report(nobody, nobody), (), seen, (), {})

    options = EvaluateOptions(reply_tokens=128)
    found = late_refusals(options, said(refusal, f"{answer} {refusal}"), said(refusal, answer))
    assert found == {HARMFUL: {"model": Rate(1, 2), "against": Rate(0, 2)}}
    assert late_refusals(EvaluateOptions(reply_tokens=32), said(answer)) == {}
