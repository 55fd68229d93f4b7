"""Forms: the package's own, crossed, and what is said of a file that does not fit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.prompts.forms import Filled, Form, Forms, first_pairs, load_forms

GOOD = '[[form]]\nname = "one"\nwhere = "user"\nsentence = "complete"\nuser = "How do I {p}?"\n'


def test_the_first_finished_and_unfinished_forms_of_a_place_are_a_pair() -> None:
    forms = load_forms()
    turned = first_pairs(forms[name] for name in ("raw-open", "example", "request", "question", "open", "raw-closed"))
    assert turned == [(forms["raw-closed"], forms["raw-open"]), (forms["request"], forms["example"])]
    assert first_pairs([forms["question"], forms["raw-open"]]) == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_where_and_sentence_are_crossed(language: str) -> None:
    forms = load_forms(language=language)
    counts = Counter((form.where, form.sentence) for form in forms if not form.others)
    assert counts == {
        ("user", "complete"): 2, ("user", "incomplete"): 2, ("reply", "complete"): 1, ("reply", "incomplete"): 1,
        ("raw", "complete"): 1, ("raw", "incomplete"): 1,
    }  # fmt: skip
    assert [form.others for form in forms if form.others] == [1, 2, 3]
    assert forms.names == load_forms().names
    assert {form.language for form in forms} == {language}


def test_the_texts_are_those_of_the_table() -> None:
    forms = load_forms()
    assert forms["question"].fill("bake bread") == Filled("How do I bake bread?", 9, 19)
    assert forms["example"].fill("bake bread").content == "How do I bake bread, for example,"
    assert forms["reply-closed"].fill("bake bread") == Filled(
        "How do I bake bread?", 9, 19, "There are several ways to do this."
    )
    assert forms["raw-open"].fill("bake bread").content == "The first step to bake bread is to"
    shots = forms["shots-3"].fill("bake bread", ["sing", "dance", "swim", "more"])
    assert shots.content == "How do I sing, dance, swim and bake bread, for example,"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_phrase_is_where_a_form_says(language: str) -> None:
    for form in load_forms(language=language):
        filled = form.fill("bake bread", ["bake", "bread", "bake bread"])
        assert filled.content[filled.begin : filled.end] == "bake bread"
        assert filled.begin == form.fill("x", ["bake", "bread", "bake bread"]).begin


def test_braces_of_a_phrase_are_not_filled_in() -> None:
    form = Form("one", "user", "complete", user="How do I {p}? {p}!")
    assert form.fill("draw {q1}") == Filled("How do I draw {q1}? draw {q1}!", 9, 18)


def test_a_reply_may_say_the_phrase_again() -> None:
    form = Form("one", "reply", "incomplete", user=" {p}? ", reply="To {p} you")
    assert form.fill("sing") == Filled("sing?", 0, 4, "To sing you")


def test_space_around_a_phrase_is_no_part_of_it() -> None:
    form = load_forms()["open"]
    assert form.fill(" bake bread\n") == form.fill("bake bread")
    with pytest.raises(InputError, match="form open: the phrase is empty"):
        form.fill(" ")


def test_too_few_other_phrases_are_said() -> None:
    with pytest.raises(InputError, match="form shots-2 asks for 2 other phrases beside 'sing', and 1 were given"):
        load_forms()["shots-2"].fill("sing", ["dance"])


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + GOOD.replace("one", "zwei").replace("How do I", "Wie soll ich") + 'language = "de"\n')
    assert load_forms(path) == Forms(str(path), (Form("one", "user", "complete", user="How do I {p}?"),))
    assert load_forms(str(path), language="de").names == ("zwei",)
    assert load_forms(path).name == "mine.toml"
    assert load_forms(path).digest != load_forms(path, language="de").digest
    with pytest.raises(InputError, match=r"mine\.toml: holds no form in the language 'ko'; it has en, de"):
        load_forms(path, language="ko")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no forms; write a"),
        ("form = 3", "holds no forms"),
        ('[[forms]]\nname = "a"', "the key forms is unknown"),
        (GOOD.replace(" {p}", ""), r"form one: user has no \{p\}; write \{p\} where the phrase goes"),
        (GOOD + 'mood = "sad"\n', "form one has an unknown key mood; there are name, where, sentence, user"),
        (GOOD + "reply = 3\n", "form one has reply = 3; it must be text in quotes"),
        (GOOD + 'reply = "So"\n', 'form one: where = "user" takes no reply; remove it'),
        (GOOD.replace('"user"', '"reply"'), 'form one: where = "reply" needs reply'),
        (GOOD.replace('"user"', '"raw"'), 'form one: where = "raw" needs text'),
        (GOOD.replace('"user"', '"system"'), "form one: where = 'system' is unknown; choose among user, reply, raw"),
        (GOOD.replace('"complete"', '"half"'), "form one: sentence = 'half' is unknown"),
        (GOOD.replace('where = "user"\n', ""), 'form one has no where; write where = "..."'),
        (GOOD.replace('"one"', '""'), "form number 1 has no name"),
        (GOOD.replace("{p}?", "{p} {q4}?"), r"form one: \{q4\} in user is unknown; there are \{p\}, \{q1\}"),
        (GOOD.replace("{p}?", "{p} {}?"), r"form one: \{\} in user is unknown"),
        (GOOD + GOOD.replace("How", "So how"), "two forms are called one"),
        (GOOD + GOOD.replace("one", "two"), "the forms one and two render alike"),
        (GOOD + GOOD.replace("one", "two").replace("How do", " How  do"), "the forms one and two render alike"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.toml: .*{message}") as error:
        load_forms(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD + "language = en\n", 6),
        (GOOD + 'reply = "open\n', 6),
        (GOOD + 'name = "two"\n', 6),
        (GOOD + "reply = [", 6),
    ],
)
def test_what_is_no_toml_is_named_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.toml:{line}: not TOML \(.*\); write a \[\[form\]\]") as error:
        load_forms(path)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: cannot be read"):
        load_forms(tmp_path / "none.toml")


def test_a_form_that_is_not_there_is_named_with_those_that_are() -> None:
    forms = load_forms()
    assert forms.choose(["open", "question"]).names == ("open", "question")
    with pytest.raises(InputError, match="--form shut: unknown; there are question, request, open"):
        forms["shut"]
    with pytest.raises(InputError, match="--form shut: unknown"):
        forms.choose(["open", "shut"])
