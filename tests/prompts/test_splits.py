"""Which prompts serve for what: no prompt for two things, and as many as were asked for."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from abliterate.errors import InputError
from abliterate.prompts import splits as module
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import PromptSet
from abliterate.prompts.splits import PromptSplits
from fixtures.tiny_chat import TINY


def splits(count: int = 200, n_train: int = 30) -> PromptSplits:
    harmful, harmless = (
        PromptSet(f"/home/me/{side}.txt", tuple(f"{side} {number}" for number in range(count)))
        for side in ("bad", "good")
    )
    return PromptSplits(ChatFormat(AutoTokenizer.from_pretrained(TINY)), harmful, harmless, n_train)


def test_no_prompt_serves_for_two_things() -> None:
    one = splits()
    for side in (0, 1):
        parts = [set(part[side].prompts) for part in (one.training(), one.selecting(), one.reporting())]
        assert sum(map(len, parts)) == len(set.union(*parts))
        assert set.union(*parts) <= set((one.harmful, one.harmless)[side].prompts)


def test_as_many_as_were_asked_for_or_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(part) for part in splits(n_train=7).training()] == [7, 7]
    monkeypatch.setattr(module, "SELECT_HARMFUL", 3)
    monkeypatch.setattr(module, "SELECT_HARMLESS", 5)
    monkeypatch.setattr(module, "REPORT_PROMPTS", 4)
    assert [len(part) for part in splits().selecting()] == [3, 5]
    assert [len(part) for part in splits().reporting()] == [4, 4]
    whole = splits(n_train=10**6)
    assert whole.training()[0].prompts == whole.harmful.side("train").prompts


def test_the_report_is_put_to_the_model_as_the_template_says() -> None:
    one = splits()
    report = one.report()
    assert report.harmful.prompts == one.reporting()[0].prompts
    assert report.harmless.tokens == one.chat.encode(one.reporting()[1].prompts)
    assert report.look_alikes.prompts == ()


def test_the_record_names_lists_by_their_digest_and_not_their_folder() -> None:
    one = splits()
    record = one.record()
    assert record["harmful"] == {
        "spec": "bad.txt",
        "digest": one.harmful.digest,
        "train": 30,
        "select": len(one.selecting()[0]),
        "report": len(one.reporting()[0]),
    }
    assert record["harmless"]["digest"] != record["harmful"]["digest"]


def test_a_side_that_stays_empty_is_refused() -> None:
    with pytest.raises(InputError, match=r"falls on the .* side of the split"):
        splits(count=1).record()
