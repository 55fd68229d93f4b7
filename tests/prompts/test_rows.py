"""Rows of every shape that lists of prompts are published in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.prompts.prompt_set import load_prompts
from abliterate.prompts.rows import beside, choose_column, content_text, rows_to_prompts, turns_of
from fixtures.prompts import TEXTS

USER = {"role": "user", "content": "Describe a hill."}
SYSTEM = {"role": "system", "content": "Be short."}
REPLY = {"role": "assistant", "content": "It is high."}
GPT = [
    {"from": "system", "value": "Be short."},
    {"from": "human", "value": "Describe a hill."},
    {"from": "gpt", "value": "High."},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Describe "}, {"type": "text", "text": "a hill."}]}]


@pytest.mark.parametrize(
    ("row", "system"),
    [
        ("Describe a hill.", None),
        ([USER], None),
        ([SYSTEM, USER, REPLY], "Be short."),
        ([REPLY, USER, REPLY, {"role": "user", "content": "And a lake?"}], None),
        ([SYSTEM, SYSTEM, USER], "Be short.\n\nBe short."),
        (GPT, "Be short."),
        (PARTS, None),
        ([{**SYSTEM, "role": "developer"}, USER], "Be short."),
        ([{"role": "system", "content": " "}, USER], None),
    ],
)
def test_a_conversation_is_asked_by_its_first_user_turn(row: Any, system: str | None) -> None:
    for rows in ([row], [{"messages": row}], [{"conversations": row, "id": 1}], [{"prompt": row, "text": "no"}]):
        (prompt,) = rows_to_prompts("x", rows, None)
        assert (prompt, prompt.system) == ("Describe a hill.", system)


def test_lists_of_conversations_are_read_from_every_file(tmp_path: Path) -> None:
    rows = [[SYSTEM, {"role": "user", "content": text}] for text in TEXTS]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"messages": row, "text": "rendered"}) for row in rows))
    for name in ("a.json", "a.jsonl", "b.jsonl"):
        found = load_prompts(str(tmp_path / name))
        assert found.prompts == tuple(TEXTS)
        assert {prompt.system for prompt in found.prompts} == {"Be short."}  # type: ignore[attr-defined]


def test_system_and_category_stand_beside_the_prompt() -> None:
    rows = [
        {"Goal": "Why?", "Category": "cats", "system_prompt": "Be short."},
        {"Goal": "How?", "Category": 3, "system_prompt": ""},
        {"Goal": "When?", "Category": ["a", "b"], "system_prompt": None},
        {"Goal": "Who?", "Category": None},
    ]
    found = rows_to_prompts("x", rows, None)
    assert [(one, one.system, one.category) for one in found] == [
        ("Why?", "Be short.", "cats"),
        ("How?", None, "3"),
        ("When?", None, "a, b"),
        ("Who?", None, None),
    ]
    own = rows_to_prompts("x", [{"messages": [SYSTEM, USER], "system": "Be long."}], None)
    assert own[0].system == "Be short."  # the conversation's own goes before the column's


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[REPLY]], "row 1 is a conversation in which no user says anything"),
        ([[]], "row 1 holds [] where a prompt is expected"),
        ([["a", "b"]], "row 1 holds ['a', 'b']"),
        ([[{"role": "user", "content": 3}]], "row 1 holds"),
        ([[{"role": "user", "content": [{"type": "image"}]}]], "row 1 holds"),
        ([{"prompt": None}], "row 1 holds None"),
        ([{"prompt": "a", "system": 3}], "row 1 has a system message 3"),
        (["a", 3], "row 1 is a str"),
        (["a\udc00"], "row 1 holds half of a surrogate pair"),
        ([{"left": 1, "right": 2}], "Name one of left, right"),
        ([{}], "Name one of none"),
    ],
)
def test_what_is_no_prompt_is_named_by_its_row(rows: list[Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        rows_to_prompts("x", rows, None)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_columns_are_chosen_by_the_most_usual_name() -> None:
    assert choose_column("x", ["text", "messages"], None) == "messages"
    assert choose_column("x", ["messages", "prompt"], None) == "prompt"
    assert beside(["Category", "goal"], ("category",), "goal") == "Category"
    assert beside(["category"], ("category",), "category") is None  # it is what holds the prompts


def test_turns_are_read_as_published() -> None:
    assert turns_of(GPT) == [("system", "Be short."), ("human", "Describe a hill."), ("gpt", "High.")]
    assert turns_of("text") is None
    assert content_text(None) == ""
    assert content_text([{"type": "text", "text": "a"}, {"type": "image"}]) is None
