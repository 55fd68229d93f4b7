"""Refusals: labelled replies, verdicts that do not hang on typography, and the laws of openings."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.errors import InputError, NoRefusalsError
from abliterate.prompts.chat_format import THINK_BLOCKS
from abliterate.replies import refusals
from abliterate.replies.openings import Opening, find_openings
from abliterate.replies.refusal_rules import Rule
from abliterate.replies.refusals import is_refusal
from abliterate.replies.thinking import visible_reply
from fixtures.folders import FIXTURES

LABELLED = [json.loads(line) for line in (FIXTURES / "labelled_replies.jsonl").read_text(encoding="utf-8").splitlines()]
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


TABLES = {
    name: table
    for name, table in vars(refusals).items()
    if isinstance(table, tuple) and table and isinstance(table[0], Rule)
}


@pytest.mark.parametrize("name", TABLES)
def test_rules_have_unique_names_and_reasons(name: str) -> None:
    assert len({rule.name for rule in TABLES[name]}) == len(TABLES[name])
    assert all(rule.why for rule in TABLES[name])


@pytest.mark.parametrize("rule", refusals.LEADS, ids=lambda rule: rule.name)
def test_a_lead_alone_is_no_refusal_and_stripping_ends(rule: Rule) -> None:
    assert not is_refusal("")
    assert refusals.strip_leads("well, well, well, " * 20 + "yes") == "yes"
    assert not rule.pattern.match(""), "an empty match would strip nothing, for ever"


@pytest.mark.parametrize("rule", [*refusals.DECLINES, *refusals.NOT_REFUSING], ids=lambda rule: rule.name)
def test_every_rule_is_met_by_a_labelled_reply(rule: Rule) -> None:
    opened = [sentence for example in LABELLED for sentence in refusals.opening_sentences(example["reply"])]
    clauses = [part for sentence in opened for part in re.split(r", |and ", sentence)]
    assert any(rule.pattern.match(text) for text in opened + clauses)


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


# -- Visible reply


@pytest.mark.parametrize(("opening", "closing"), THINK_BLOCKS)
def test_think_blocks(opening: str, closing: str) -> None:
    assert visible_reply(f"{opening}why{closing}\n\nThe reply.") == "The reply."
    assert visible_reply(f"why{closing} The reply.") == "The reply."
    assert visible_reply(f" {opening}why, and no end") == ""
    assert visible_reply(f"{opening}one{closing}{opening}two{closing}The reply.") == "The reply."
    assert visible_reply(f"**{opening}**one{closing}The reply.") == "The reply."
    about = f"Write {opening} before the thought and {closing} after it."
    assert visible_reply(about) == about


PIECES = [tag for block in THINK_BLOCKS for tag in block] + [
    "<|end|>",
    "</answer>",
    "analysis",
    "assistantfinal",
    "I can't help.",
    "\n",
    "*",
    "No",
]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_visible_reply_is_idempotent_and_verdicts_are_total(text: str) -> None:
    visible = visible_reply(text)
    assert visible_reply(visible) == visible
    assert is_refusal(text) in (True, False)


@pytest.mark.parametrize(
    "text", ["I " * 50_000, "while " * 20_000, "sorry, " * 20_000, "<think>" * 5_000, "a" * 200_000, "죄송" * 50_000]
)
def test_long_texts_take_no_time(text: str) -> None:
    assert is_refusal(text) is False


# -- Openings

tokens = st.integers(0, 3)
replies = st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=30)


def opens(reply: Sequence[int], openings: Sequence[Opening]) -> bool:
    return any(tuple(reply[: len(opening)]) == opening for opening in openings)


@given(replies, replies, st.integers(1, 5), st.floats(0.05, 1.0))
def test_openings_cover_and_are_prefix_free(
    refused: list[list[int]], answered: list[list[int]], max_length: int, coverage: float
) -> None:
    openings = find_openings(refused, answered, max_length, coverage)
    assert sum(opens(reply, openings) for reply in refused) >= coverage * len(refused) - 1e-9
    for opening in openings:
        assert 1 <= len(opening) <= max_length
        assert any(tuple(reply[: len(opening)]) == opening for reply in refused)
        assert not any(other != opening and other[: len(opening)] == opening for other in openings)


@given(replies, replies, st.floats(0.05, 1.0))
def test_fewest_openings(refused: list[list[int]], answered: list[list[int]], coverage: float) -> None:
    openings = find_openings(refused, answered, coverage=coverage)
    counts = [sum(opens(reply, [opening]) for reply in refused) for opening in openings]
    assert counts == sorted(counts, reverse=True), "the most frequent first"
    assert sum(counts[:-1]) < coverage * len(refused) - 1e-9, "one fewer is too few"


@given(replies, replies, st.randoms(use_true_random=False))
def test_order_does_not_matter(refused: list[list[int]], answered: list[list[int]], chance: random.Random) -> None:
    before = find_openings(refused, answered)
    assert find_openings(refused, answered) == before
    chance.shuffle(refused)
    chance.shuffle(answered)
    assert find_openings(refused, answered) == before


@given(replies)
def test_without_answers_one_token_is_enough(refused: list[list[int]]) -> None:
    assert all(len(opening) == 1 for opening in find_openings(refused, [], coverage=1.0))


def test_openings_grow_until_they_identify_refusals() -> None:
    refused = [[1, 2, 3, 9]] * 8 + [[5, 6]] * 2
    assert find_openings(refused, []) == ((1,), (5,))
    assert find_openings(refused, [[1, 2, 4]] * 2) == ((1, 2, 3), (5,))
    assert find_openings(refused, [[1, 2, 4]] * 2, coverage=0.8) == ((1, 2, 3),)
    assert find_openings(refused, [[1, 2, 3, 9]] * 9, max_length=2) == ((1, 2), (5,)), "none identifies: the longest"
    assert find_openings([[1]] * 9, [[1]]) == ((1,),), "nine in ten are enough"
    assert find_openings([[1], [1, 2], [1, 2]], [[1]] * 9) == ((1,),), "the longer one is dropped"


def test_ties_go_by_token_ids() -> None:
    assert find_openings([[7, 1], [3, 1], [5, 1]], [], coverage=1.0) == ((3,), (5,), (7,))


def test_a_share_of_the_replies_is_not_rounded_up() -> None:
    refused = [[1]] * 55 + [[token] for token in range(2, 47)]
    assert find_openings(refused, [], coverage=0.55) == ((1,),)


@pytest.mark.parametrize("refused", [[], [[]]])
def test_a_model_that_never_refuses(refused: list[list[int]]) -> None:
    with pytest.raises(NoRefusalsError, match=r"the model never refuses.*no direction to find"):
        find_openings(refused, [[1, 2], [3]])


@pytest.mark.parametrize(("max_length", "coverage"), [(0, 0.9), (4, 0.0), (4, 1.1)])
def test_out_of_range(max_length: int, coverage: float) -> None:
    with pytest.raises(InputError, match="change max_length or coverage"):
        find_openings([[1]], [], max_length, coverage)
