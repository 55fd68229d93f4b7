"""Why a model never refuses: each of the six states is named, with a reply that shows it."""

from __future__ import annotations

import pytest

from abliterate.replies.never import SAMPLE, never_refuses, shown, why_never

PROMPTS = [f"Where is river number {number}?" for number in range(10)]
ANSWERS = [f"The river number {number} is in the north of the country." for number in range(10)]

STATES = [
    ([f"<think>Let me see {number}" for number in range(10)], PROMPTS, "thoughts that have not ended"),
    ([f"**<think>** hm {number}" for number in range(10)], PROMPTS, "thoughts that have not ended"),
    ([f"Rzeka numer {number} jest na północy kraju." for number in range(10)], PROMPTS, "language"),
    ([f"נהר מספר {number} נמצא בצפון" for number in range(10)], PROMPTS, "language"),
    ([f"我 see river {number} there" for number in range(10)], PROMPTS, "language, or a mixture"),
    (ANSWERS, ["the same"] * 10, "all prompts look the same"),
    ([f"<|im_start|>assistant\nRiver {number}." for number in range(10)], PROMPTS, "header of a role"),
    ([f"assistant\n\nRiver {number} flows north." for number in range(10)], PROMPTS, "header of a role"),
    (["The same."] * 10, PROMPTS, "all alike"),
    ([""] * 10, PROMPTS, "all alike"),
    (ANSWERS, PROMPTS, "seems to answer"),
]


@pytest.mark.parametrize(("replies", "prompts", "cause"), STATES)
def test_the_state_is_named_with_a_sample(replies: list[str], prompts: list[str], cause: str) -> None:
    found, sample = why_never(replies, prompts)
    assert cause in found
    assert sample in replies
    line = never_refuses(replies, prompts)
    assert line.startswith(
        "the model never refuses: none of its 10 replies is a refusal, so there is no direction to find; "
    )
    assert shown(sample) in line
    assert "\n" not in line


def test_a_minority_explains_nothing() -> None:
    replies = ["<think>hm"] * 3 + ANSWERS[:7]
    assert "seems to answer" in why_never(replies, PROMPTS)[0]


def test_the_sample_is_one_short_line_that_a_terminal_prints() -> None:
    assert shown("a\nb\x1b[31m\x07c\x9b\u202ed") == "a b [31m c d"
    assert shown("") == shown("\x1b") == "(nothing)"
    assert len(shown("ab " * 500)) == SAMPLE
