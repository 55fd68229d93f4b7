"""Which prompts serve for what: no prompt for two things, and as many as were asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from abliterate.errors import InputError
from abliterate.prompts import splits as module
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import PromptSet
from abliterate.prompts.splits import HARMFUL, KEPT, LOOK_ALIKES, LookAlikes, PromptSplits
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


def named(name: str, count: int = 120) -> PromptSet:
    return PromptSet(f"/home/me/{name}.txt", tuple(f"{name} {number}" for number in range(count)))


@pytest.mark.parametrize("measured", [None, named("other")])
def test_look_alikes_that_measure_an_edit_have_not_made_it(measured: PromptSet | None) -> None:
    one = LookAlikes(named("alike"), measured)
    train, select, report = (one.part(name).prompts for name in ("train", "select", "report"))
    assert not set(train) & set(select)
    assert not set(train + select) & set(report)
    assert set(train + select) | set(report if measured is None else ()) == set(one.made_of.prompts)
    assert measured is None or report == measured.prompts


def test_look_alikes_that_are_harmful_or_in_both_lists_are_refused() -> None:
    alike = named("alike")
    with pytest.raises(InputError, match="120 prompts are in --look-alikes and in --harmful"):
        LookAlikes(alike).check(alike)
    with pytest.raises(InputError, match="120 prompts are in --look-alikes and in --report-look-alikes"):
        LookAlikes(alike, alike).check(named("harmful"))


def test_with_look_alikes_the_harmful_ones_are_kept() -> None:
    plain = splits()
    assert (plain.removed, plain.kept("train")) == (HARMFUL, {})
    calm = replace(plain, look_alikes=LookAlikes(named("alike"), named("other")), keep=named("stay"))
    assert calm.removed == LOOK_ALIKES
    assert calm.training()[0].prompts == calm.look_alikes.part("train").prompts  # type: ignore[union-attr]
    assert calm.kept("select")[HARMFUL].prompts == plain.selecting()[0].prompts
    assert set(calm.kept("train")) == {HARMFUL, KEPT}
    report = calm.report()
    assert (report.harmful.prompts, report.look_alikes.prompts) == (
        plain.report().harmful.prompts,
        named("other").prompts,
    )
    assert report.kept.prompts == named("stay").side("report").prompts
    record = calm.record()
    assert [*record] == [HARMFUL, "harmless", LOOK_ALIKES, KEPT, "look-alikes, report"]
    assert (record[LOOK_ALIKES]["report"], record["look-alikes, report"]["report"]) == (0, 120)
    assert {prompt for part in calm.parts() for prompt in part.prompts} >= {
        *report.kept.prompts,
        *report.look_alikes.prompts,
    }
