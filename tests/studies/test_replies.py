"""Replies to phrases in forms: the same whatever else is asked, and kept unit by unit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import Phrases, load_phrases
from abliterate.storage.record_log import RecordLog
from abliterate.studies.replies import Unit, decoder, replies_to, reply_rows
from fixtures.tiny_chat import TINY, tiny_chat


@pytest.fixture(scope="module")
def live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


def unit_of(live: LiveModel, phrases: Phrases, form: str = "raw-open") -> Unit:
    return Unit.of(live, load_forms()[form], phrases, "harmful")


def test_samples_differ_and_do_not_hang_on_what_else_is_asked(live: LiveModel) -> None:
    phrases = load_phrases()  # of its own world it is too sure
    few = unit_of(live, phrases.first(6))
    found = replies_to(live, few, tokens=12, samples=3, seed=7)
    assert len({one.samples for one in found}) > 1
    assert any(len({one.greedy, *one.samples}) > 2 for one in found)
    turned = Phrases(phrases.spec, phrases.language, phrases.phrases[5::-1])
    again = replies_to(replace(live, batch_size=2), unit_of(live, turned), tokens=12, samples=3, seed=7)
    assert again[::-1] == found
    other = replies_to(live, few, tokens=12, samples=3, seed=8)
    assert [one.greedy for one in other] == [one.greedy for one in found]
    assert [one.samples for one in other] != [one.samples for one in found]


def test_the_parts_of_a_unit_hold_each_text_once(live: LiveModel) -> None:
    unit = unit_of(live, load_phrases("builtin:phrases-tiny").first(12))
    parts = [unit.part(split) for split in ("train", "select", "report")]
    assert all(len(one.phrases) == len(one.texts) for one in parts)
    assert sum(len(one.texts) for one in parts) == 12
    assert {phrase.split for phrase in parts[0].phrases} == {"train"}
    assert unit.part("train", "select", "report") == unit
    assert unit.part("nowhere").texts == ()


def test_special_tokens_are_no_words(live: LiveModel) -> None:
    words = live.tokenizer("I can help", add_special_tokens=False)["input_ids"]
    assert decoder(live)([*words, live.tokenizer.eos_token_id]) == "I can help"


def test_what_is_kept_is_not_made_again(live: LiveModel, tmp_path: Path, computed: Counter[str]) -> None:
    few = unit_of(live, load_phrases("builtin:phrases-tiny").first(3))
    first = replies_to(live, few, tokens=8, samples=1, kept=RecordLog(tmp_path / "units.jsonl"))
    made = computed["replies"]
    assert made
    assert replies_to(live, few, tokens=8, samples=1, kept=RecordLog(tmp_path / "units.jsonl")) == first
    assert computed["replies"] == made
    replies_to(live, few, tokens=9, samples=1, kept=RecordLog(tmp_path / "units.jsonl"))
    assert computed["replies"] == 2 * made
    rows = reply_rows(few, first, live.tokenizer.decode)
    assert [row["sample"] for row in rows] == [0, 1] * 3
    assert rows[1]["text"] == live.tokenizer.decode(list(first[0].samples[0]))


@pytest.mark.parametrize(("tokens", "samples"), [(0, 1), (3, -1)])
def test_numbers_out_of_range_are_refused(live: LiveModel, tokens: int, samples: int) -> None:
    with pytest.raises(InputError, match=r"^--(tokens 0|samples -1): give a number from"):
        replies_to(live, unit_of(live, load_phrases("builtin:phrases-tiny").first(2)), tokens=tokens, samples=samples)
