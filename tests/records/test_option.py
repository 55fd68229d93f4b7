"""What holds for every declared option, whichever class it stands in."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from abliterate.pipeline.options import Options
from abliterate.records.option import Declaration, changed, declarations, flag_of, number_or, one_of, some_of, words_of
from abliterate.training.harden_options import HardenOptions
from abliterate.training.heal_options import HealOptions
from fixtures.option_values import CLASSES, values_of

DECLARED = [(options, name) for options in CLASSES for name in declarations(options)]


def id_of(one: object) -> str:
    return one.__name__ if isinstance(one, type) else str(one)


@pytest.mark.parametrize("options", CLASSES, ids=id_of)
def test_every_field_is_declared_with_help_and_a_reader(options: type) -> None:
    known = declarations(options)
    assert set(known) == {one.name for one in fields(options)}
    for one in known.values():
        assert one.help.strip()
        assert one.switch or callable(one.read)


@pytest.mark.parametrize(("options", "name"), DECLARED, ids=id_of)
def test_what_is_written_is_read_back(options: type, name: str) -> None:
    one = declarations(options)[name]
    if one.switch:
        return

    @given(values_of(options, name))
    def law(value: Any) -> None:
        assert one.read(one.write(value)) == value
        assert one.typed(one.text(value)) == value

    law()
    if one.none is not None:
        assert one.typed(one.text(None)) is None


@pytest.mark.parametrize(("options", "name"), DECLARED, ids=id_of)
def test_the_default_can_be_typed_and_every_known_word_is_read(options: type, name: str) -> None:
    one = declarations(options)[name]
    usual = next(field.default for field in fields(options) if field.name == name)
    if not one.switch and usual is not None and usual is not MISSING:
        assert one.typed(one.text(usual)) == usual
    for word in one.words:
        one.typed(word)


@pytest.mark.parametrize("options", CLASSES, ids=id_of)
def test_no_two_options_of_a_class_have_one_flag(options: type) -> None:
    flags = [flag_of(name, one) for name, one in declarations(options).items()]
    assert len(flags) == len(set(flags))


def test_words_known_and_unknown() -> None:
    assert one_of(("a", "b"))("b") == "b"
    assert some_of(("a", "b"))(" b, a,") == ("b", "a")
    for read, text in ((one_of(("a", "b")), "c"), (some_of(("a", "b")), "a,c"), (some_of(("a", "b")), ",")):
        with pytest.raises(ValueError, match="choose among a, b"):
            read(text)


def test_a_number_or_one_of_some_words() -> None:
    read = number_or("auto", "all")
    assert [read(text) for text in ("auto", "all", "7")] == ["auto", "all", 7]
    with pytest.raises(ValueError, match=r"^give auto, all or a whole number$"):
        read("last")


def test_what_is_at_its_default_or_of_this_machine_is_not_written() -> None:
    options = Options(
        "here/model", Path("out"), device="cuda", max_memory=1, force=True, trust_remote_code=True, seed=4
    )
    assert words_of(options) == ["--seed", "4"]
    assert changed(replace(options, seed=0)) == {
        "device": "cuda", "max_memory": 1, "force": True, "trust_remote_code": True,
    }  # fmt: skip
    assert words_of(HealOptions(adapter=True, rank=3)) == ["--adapter", "--lora-r", "3"]
    assert words_of(HardenOptions(batch_size=3)) == []  # the command has no flag for it


def test_the_word_for_none_is_of_the_command_line_alone() -> None:
    one = Declaration("A text.", none="")
    assert (one.typed(""), one.read("")) == (None, "")
