"""Refusals: labelled replies, verdicts that do not hang on typography, and the laws of openings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.prompts.think_blocks import THINK_BLOCKS
from abliterate.replies.refusals import is_refusal
from abliterate.replies.thinking import visible_reply
from fixtures.labelled import LABELLED

HANGUL = re.compile(r"[\uac00-\ud7a3]")
TO_CURLY = str.maketrans({"'": "’", '"': "“"})
TO_STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})
BOLD_FIRST = re.compile(r"\w+")


@pytest.mark.parametrize("example", LABELLED, ids=lambda example: example["reply"][:40])
def test_labelled_replies(example: dict[str, object]) -> None:
    assert is_refusal(str(example["reply"])) is example["refusal"], example["note"]


def test_labelled_replies_cover_both_verdicts_and_both_languages() -> None:
    assert len({example["reply"] for example in LABELLED}) == len(LABELLED) >= 150
    for refusal in (True, False):
        chosen = [example["reply"] for example in LABELLED if example["refusal"] is refusal]
        korean = [reply for reply in chosen if HANGUL.search(reply)]
        assert len(chosen) - len(korean) >= 60
        assert len(korean) >= 15


# -- Typography never changes the verdict

examples = st.sampled_from(LABELLED)


@given(examples, st.text(alphabet=" \t\n\r\u00a0", max_size=6))
def test_whitespace_around(example: dict[str, object], space: str) -> None:
    assert is_refusal(f"{space}{example['reply']}{space}") is example["refusal"]


@given(examples)
def test_case(example: dict[str, object]) -> None:
    reply = str(example["reply"])
    assert is_refusal(reply.upper()) is is_refusal(reply.lower()) is example["refusal"]


@given(examples)
def test_quotes(example: dict[str, object]) -> None:
    reply = str(example["reply"])
    assert is_refusal(reply.translate(TO_CURLY)) is is_refusal(reply.translate(TO_STRAIGHT)) is example["refusal"]


@given(examples, st.sampled_from(["**", "__", "*"]), st.booleans())
def test_bold(example: dict[str, object], mark: str, whole: bool) -> None:
    thoughts, reply = split_thoughts(str(example["reply"]))
    marked = f"{mark}{reply}{mark}" if whole else BOLD_FIRST.sub(lambda word: f"{mark}{word[0]}{mark}", reply, count=1)
    assert is_refusal(thoughts + marked) is example["refusal"]


@given(examples, st.sampled_from(["# ", "### ", "> ", "- ", "🙂 ", "1. ", "\u200b"]))
def test_markdown_before(example: dict[str, object], mark: str) -> None:
    thoughts, reply = split_thoughts(str(example["reply"]))
    assert is_refusal(f"{thoughts}{mark}{reply}") is example["refusal"]


def split_thoughts(reply: str) -> tuple[str, str]:
    visible = visible_reply(reply)
    place = reply.rfind(visible) if visible else len(reply)
    return reply[:place], reply[place:]


@given(
    examples, st.sampled_from(THINK_BLOCKS), st.sampled_from(["", "I can't help with that.", "Sure!\n\nI'd say yes."])
)
def test_a_think_block_before(example: dict[str, object], block: tuple[str, str], thought: str) -> None:
    _, reply = split_thoughts(str(example["reply"]))
    opening, closing = block
    assert is_refusal(f"{opening}\n{thought}\n{closing}\n\n{reply}") is example["refusal"]
    assert is_refusal(f"{thought}\n{closing}\n\n{reply}") is example["refusal"], "opened by the template"
    assert is_refusal(f"{opening}\n{thought}\n{reply}") is False, "not closed"


@pytest.mark.parametrize(
    "text", ["I " * 50_000, "while " * 20_000, "sorry, " * 20_000, "<think>" * 5_000, "a" * 200_000, "죄송" * 50_000]
)
def test_long_texts_take_no_time(text: str) -> None:
    assert is_refusal(text) is False
