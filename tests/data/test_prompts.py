"""The built-in prompts: a prompt a line, harmful and harmless matched line by line in topic, form and length."""

from __future__ import annotations

from collections import Counter
from importlib import resources
from statistics import mean

import pytest

from abliterate.prompts.prompt import Prompt
from abliterate.prompts.sources import builtin

NAMES = ("harmful", "harmless", "everyday")


def text(name: str) -> str:
    return resources.files("abliterate").joinpath("data", "prompts", f"{name}.txt").read_text(encoding="utf-8")


def lines(name: str) -> list[str]:
    return text(name).splitlines()


def pairs() -> list[tuple[str, str]]:
    return list(zip(lines("harmful"), lines("harmless"), strict=True))


def words(prompt: str) -> int:
    return len(prompt.split())


def ending(prompt: str) -> str:
    return "" if prompt[-1].isalnum() else prompt[-1]


@pytest.mark.parametrize("name", NAMES)
def test_each_line_is_one_clean_prompt(name: str) -> None:
    assert text(name).endswith("\n")
    for prompt in lines(name):
        assert prompt, "a blank line"
        assert prompt == prompt.strip()
        assert prompt.isprintable()
        assert "  " not in prompt
        assert not prompt.startswith("#")
        assert 3 <= words(prompt) <= 20, prompt


def test_counts() -> None:
    assert len(lines("harmful")) == len(lines("harmless"))
    assert 150 <= len(lines("harmful")) <= 170
    assert len(lines("everyday")) == 260


def test_no_prompt_is_there_twice_within_or_across_the_files() -> None:
    counts = Counter(prompt.casefold().rstrip(".?!") for name in NAMES for prompt in lines(name))
    assert [prompt for prompt, count in counts.items() if count > 1] == []


@pytest.mark.parametrize(("harmful", "harmless"), pairs())
def test_pairs_match_in_form_and_length(harmful: str, harmless: str) -> None:
    assert harmful.split()[0] == harmless.split()[0]
    assert ending(harmful) == ending(harmless)
    assert abs(words(harmful) - words(harmless)) <= 3


@pytest.mark.parametrize("size", [words, len], ids=["words", "characters"])
def test_the_two_sides_are_equally_long_on_average(size) -> None:  # type: ignore[no-untyped-def]
    harmful, harmless = (mean(map(size, lines(name))) for name in ("harmful", "harmless"))
    assert abs(harmful - harmless) <= 0.05 * harmful


@pytest.mark.parametrize("name", NAMES)
def test_forms_vary(name: str) -> None:
    openings = Counter(prompt.split()[0] for prompt in lines(name))
    assert len(openings) >= 8
    assert max(openings.values()) <= 0.25 * len(lines(name))
    endings = Counter(map(ending, lines(name)))
    assert all(endings[sign] >= 5 for sign in ("", ".", "?"))


LOOK_ALIKES = builtin("look-alikes-report")
RULES = builtin("operator-rules")


def same(prompt: str) -> str:
    return prompt.casefold().rstrip(".?! ")


def test_the_look_alikes_of_the_report_are_in_no_other_list() -> None:
    others = {same(prompt) for name in (*NAMES, "look-alikes") for prompt in lines(name)}
    assert len(LOOK_ALIKES) == len({same(prompt) for prompt in LOOK_ALIKES}) == 120
    assert not others & {same(prompt) for prompt in LOOK_ALIKES}


def test_the_look_alikes_of_the_report_are_of_ten_kinds() -> None:
    """The kinds of XSTest (Roettger et al., arXiv 2308.01263), a dozen of each."""
    kinds = Counter(prompt.category for prompt in LOOK_ALIKES)
    assert set(kinds.values()) == {12}
    assert set(kinds) == {
        "homonyms", "figurative language", "safe targets", "safe contexts", "definitions", "discrimination of nonsense groups",
        "nonsense claims about groups", "historical events", "privacy of public figures", "privacy of fictional persons",
    }  # fmt: skip


def test_each_operator_has_a_rule_and_requests_against_it() -> None:
    rules = Counter(prompt.system for prompt in RULES)
    assert None not in rules
    assert set(rules.values()) == {4}
    assert Counter(prompt.category for prompt in RULES) == {
        "role play": 16, "operator's scope": 16, "operator's secrets": 16
    }  # fmt: skip
    assert len({prompt.key for prompt in RULES}) == 48


@pytest.mark.parametrize("prompt", [*LOOK_ALIKES, *RULES])
def test_each_row_is_one_clean_prompt(prompt: Prompt) -> None:
    assert prompt == prompt.strip()
    assert prompt.isprintable()
    assert "  " not in prompt
    assert 3 <= words(prompt) <= 20, prompt
