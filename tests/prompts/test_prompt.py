"""A prompt is its text, whatever else it brings."""

from __future__ import annotations

import copy
import json
import pickle

from abliterate.prompts.prompt import Prompt, categories_of, category_of, key_of


def test_a_prompt_is_a_string() -> None:
    one = Prompt("Why?", system="Be short.", category="cats")
    assert one == "Why?"
    assert hash(one) == hash("Why?")
    assert json.dumps([one]) == '["Why?"]'


def test_what_it_brings_stays_with_it() -> None:
    one = Prompt(" Why? ", "Be short.", "cats", [("user", "Hello"), ("assistant", "Hi")])
    for other in (Prompt(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert (other, other.system, other.category, other.earlier) == (one, one.system, one.category, one.earlier)
    assert (one.trimmed(), one.trimmed().category) == ("Why?", "cats")
    assert Prompt(one, system="Be long.").system == "Be long."


def test_the_key_tells_what_the_model_sees() -> None:
    assert Prompt("Why?").key == key_of("Why?") == "Why?"
    assert Prompt("Why?", category="cats").key == "Why?"
    assert len({one.key for one in (Prompt("Why?"), Prompt("Why?", "a"), Prompt("Why?", ""), Prompt("Why?", "b"))}) == 4


def test_categories_are_in_the_order_of_their_first() -> None:
    prompts = ["plain", Prompt("a", category="x"), Prompt("b", category="y"), Prompt("c", category="x")]
    assert categories_of(prompts) == ("x", "y")
    assert category_of("plain") is None
