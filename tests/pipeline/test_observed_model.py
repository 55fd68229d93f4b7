"""One model as an evaluation sees it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from transformers import AutoTokenizer

from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, LOOK_ALIKES, EvaluateOptions
from abliterate.pipeline.observed_model import observe_model, questions, standing_on
from abliterate.pipeline.run import Result
from abliterate.progress import SILENT
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import PromptSet
from fixtures.tiny_chat import TINY, in_float32

SETS = {
    HARMFUL: PromptSet("a", tuple((TINY / "harmful.txt").read_text().splitlines()[:2])),
    HARMLESS: PromptSet("b", tuple((TINY / "harmless.txt").read_text().splitlines()[:2])),
}


def test_an_adapter_stands_on_its_model(tmp_path: Path) -> None:
    options = in_float32(Path())
    assert standing_on(options, str(TINY)) == str(TINY)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    assert standing_on(options, str(tmp_path)) == "org/base"


def test_questions_are_put_as_the_template_says(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    text = tmp_path / "text.txt"
    text.write_text("A river runs through the town. " * 30)
    report, windows = questions(
        replace(in_float32(Path()), system="Be brief."), EvaluateOptions(text=text), SETS, tokenizer
    )
    chat = ChatFormat(tokenizer, "Be brief.")
    assert report.harmful.tokens == chat.encode(SETS[HARMFUL].prompts)
    assert report.harmless.prompts == SETS[HARMLESS].prompts
    assert report.look_alikes.prompts == ()
    assert windows
    assert questions(in_float32(Path()), EvaluateOptions(), SETS, tokenizer)[1] == []


def test_the_second_is_seen_along_the_replies_of_the_first(edited: Result, tmp_path: Path) -> None:
    asked = EvaluateOptions(reply_tokens=12)
    options = in_float32(Path())
    first = observe_model(options, asked, str(TINY), SETS, None, tmp_path, SILENT)
    other = replace(options, model=str(edited.out))
    second = observe_model(other, asked, str(edited.out), SETS, first, tmp_path, SILENT)
    assert (first.name, second.name) == ("tiny-chat", "edited")
    assert set(first.sets) == {HARMFUL, HARMLESS}  # without look-alikes there is no such kind
    assert LOOK_ALIKES not in second.sets
    assert all(reply.refused for reply in first.sets[HARMFUL])
    assert not any(reply.refused for reply in second.sets[HARMFUL])
    assert second.report is first.report
    assert [len(states) for states in second.seen.states] == [len(states) for states in first.seen.states]
    assert [len(states) for states in first.seen.states] == [len(one.tokens) for one in first.seen.harmless]
    assert (first.losses, first.tasks) == ((), {})
