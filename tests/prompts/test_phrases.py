"""Matched phrases: the two lists that the package ships, their split, and files of a user's own."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest

from abliterate.errors import InputError
from abliterate.prompts.phrases import LANGUAGES, Phrase, Phrases, load_phrases
from abliterate.prompts.prompt_set import SPLIT_NAMES, side_of

SHARES = {
    "physical harm": 0.32, "hate": 0.31, "privacy": 0.11, "illegal": 0.09, "government": 0.07, "fraud": 0.05, "malware": 0.05,
}  # fmt: skip
"""Those of the group whose incomplete prompts the forms follow."""

SIZES = {"en": 160, "ko": 80}
PARTS = [name for name, _ in SPLIT_NAMES]
EIGHT = "".join(f"kind\tspoil dish {number}\tcook dish {number}\n" for number in range(8))


@pytest.fixture(params=sorted(LANGUAGES))
def phrases(request: pytest.FixtureRequest) -> Phrases:
    return load_phrases(language=request.param)


def changed(phrase: Phrase) -> int:
    """How many words of the harmful phrase its match has not."""
    return sum((Counter(phrase.harmful[0].split()) - Counter(phrase.harmless.split())).values())


def test_the_lists_have_their_size_and_categories_their_shares(phrases: Phrases) -> None:
    assert len(phrases) == SIZES[phrases.language]
    counts = Counter(phrase.category for phrase in phrases)
    assert set(counts) == set(SHARES) == set(phrases.categories)
    assert all(abs(counts[name] - share * len(phrases)) <= 1 for name, share in SHARES.items())


def test_every_phrase_is_there_once_within_and_across_the_sides(phrases: Phrases) -> None:
    texts = [text.casefold() for phrase in phrases for text in (*phrase.harmful, phrase.harmless)]
    assert [text for text, count in Counter(texts).items() if count > 1] == []
    for text in texts:
        assert text == " ".join(text.split())
        assert text.isprintable()
        assert text[-1].isalnum()  # a form brings the end of the sentence
        assert not set("{|}") & set(text)
        assert 2 <= len(text.split()) <= 9


def test_pairs_differ_in_little(phrases: Phrases) -> None:
    for phrase in phrases:
        words = [len(text.split()) for text in (phrase.harmful[0], phrase.harmless)]
        assert abs(words[0] - words[1]) <= 1, phrase
        assert changed(phrase) <= 4, phrase
    assert mean(map(changed, phrases)) <= 1.6
    for size in (len, lambda text: len(text.split())):
        harmful, harmless = (mean(size(phrase.on(side)) for phrase in phrases) for side in ("harmful", "harmless"))
        assert abs(harmful - harmless) <= 0.05 * harmful


def test_infinitives_begin_with_a_verb_that_is_no_other_form() -> None:
    for phrase in load_phrases():
        for text in (*phrase.harmful, phrase.harmless):
            first = text.split()[0]
            assert first.isalpha()
            assert first.islower()
            assert not first.endswith("ing")
            assert first != "to"


def test_korean_phrases_stand_before_a_noun_and_their_particles_fit() -> None:
    for phrase in load_phrases(language="ko"):
        for text in (*phrase.harmful, phrase.harmless):
            last = text[-1]
            assert (ord(last) - 0xAC00) % 28 == 4, text  # ends in the consonant of -는
            for before, particle in re.findall(r"([가-힣])([을를]) ", text):
                if particle == "을":
                    assert (ord(before) - 0xAC00) % 28, text
                else:
                    assert not (ord(before) - 0xAC00) % 28, text


def test_many_phrases_have_alternatives_of_one_word(phrases: Phrases) -> None:
    several = [phrase for phrase in phrases if len(phrase.harmful) > 1]
    assert len(several) >= len(phrases) // 3
    assert {len(phrase.harmful) for phrase in several} == {3}


def test_the_parts_are_those_of_the_first_alternative_and_large_enough() -> None:
    phrases = load_phrases()
    parts = {name: phrases.part(name) for name in PARTS}
    assert [one for name in PARTS for one in parts[name]] == sorted(phrases, key=lambda one: PARTS.index(one.split))
    assert len(parts["train"]) >= 64
    assert min(map(len, parts.values())) >= 24
    for phrase in phrases:
        assert phrase.split == side_of(phrase.harmful[0])
    for part in parts.values():
        assert set(part.categories) == set(SHARES)


def test_parts_do_not_share_a_text(phrases: Phrases) -> None:
    texts = [{text for one in phrases.part(name) for text in (*one.harmful, one.harmless)} for name in PARTS]
    assert sum(map(len, texts)) == len(set().union(*texts))


def test_others_are_of_the_same_part_and_do_not_hang_on_what_else_is_asked(phrases: Phrases) -> None:
    for phrase in phrases:
        three = phrases.others(phrase, 3)
        assert len({phrase, *three}) == 4
        assert {one.split for one in three} == {phrase.split}
        assert phrases.others(phrase, 2) == three[:2]
        assert phrases.part(phrase.split).others(phrase, 3) == three
    assert len({phrases.others(phrase, 1) for phrase in phrases}) > len(phrases) / 3


def test_the_digest_is_of_the_phrases_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(EIGHT)
    mine = load_phrases(path)
    assert mine.name == "mine.tsv"
    assert mine.digest == load_phrases(str(path)).digest
    assert mine.digest != mine.first(7).digest
    assert mine.digest != load_phrases(path, language="ko").digest


def test_a_file_may_have_comments_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text("\ufeff# mine\n\nkind\t{break|smash}  a  cup\tpaint a cup\r\n" + EIGHT, encoding="utf-8")
    assert load_phrases(path)[0] == Phrase("kind", ("break a cup", "smash a cup"), "paint a cup")
    assert load_phrases(path)[0].on("harmful", 1) == "smash a cup"
    assert load_phrases(path)[0].on("harmless", 1) == "paint a cup"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("kind\tbreak a cup", r"mine\.tsv:9: .* is no phrase; expected category<TAB>harmful<TAB>harmless"),
        ("kind\t\tpaint a cup", r"mine\.tsv:9: .* is no phrase"),
        ("kind\tbreak a cup\tpaint a cup\tmore", r"mine\.tsv:9: .* is no phrase"),
        ("kind\tbreak a {cup\tpaint a cup", r"mine\.tsv:9: .*does not read as a phrase with one \{a\|b\|c\}"),
        ("kind\t{break|smash} a {cup|mug}\tpaint a cup", r"mine\.tsv:9: .*does not read as a phrase with one"),
        ("kind\tbreak a | cup\tpaint a cup", r"mine\.tsv:9: .*does not read as a phrase"),
        ("kind\t{break|} a cup\tpaint a cup", r"mine\.tsv:9: an alternative of .* is empty"),
        ("kind\tbreak a cup\t{paint|draw} a cup", r"mine\.tsv:9: alternatives stand in the harmful phrase alone"),
        ("kind\tspoil dish 3\tpaint a cup", r"mine\.tsv:9: 'spoil dish 3' is there already in line 4"),
        ("kind\tCook dish 3\tpaint a cup", r"mine\.tsv:9: 'Cook dish 3' is there already in line 4"),
        ("kind\tbreak a cup\tbreak a cup", r"mine\.tsv:9: .*says the same twice"),
        ("kind\t{break|break} a cup\tpaint a cup", r"mine\.tsv:9: .*says the same twice"),
    ],
)
def test_a_row_that_is_no_phrase_is_named(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "mine.tsv"
    path.write_text(f"{EIGHT}{row}\n")
    with pytest.raises(InputError, match=message) as error:
        load_phrases(path)
    assert "\n" not in str(error.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.tsv: cannot be read \(No such file"):
        load_phrases(tmp_path / "none.tsv")
    (tmp_path / "few.tsv").write_text(EIGHT.partition("\n")[0])
    with pytest.raises(InputError, match=r"few\.tsv: holds 1 phrases; give at least 8"):
        load_phrases(tmp_path / "few.tsv")
    (tmp_path / "latin.tsv").write_bytes(b"kind\tbr\xe9ak\tpaint\n")
    with pytest.raises(InputError, match=r"latin\.tsv: not UTF-8 text at byte 7"):
        load_phrases(tmp_path / "latin.tsv")
    with pytest.raises(InputError, match="no phrases in the language 'de'; it has en, ko"):
        load_phrases(language="de")


def test_what_is_not_there_is_named() -> None:
    phrases = load_phrases()
    with pytest.raises(InputError, match="tests: no part of the split; choose among train, select, report"):
        phrases.part("tests")
    with pytest.raises(InputError, match="has no alternative 3; it has 0 to 2"):
        phrases[0].on("harmful", 3)
    alone = Phrases("few", "en", (phrases[0],))
    with pytest.raises(InputError, match=r"asks for 1 other phrases .* train side of the split has 0"):
        alone.others(phrases[0], 1)
    with pytest.raises(InputError, match="none of its 1 phrases falls on the report side"):
        alone.part("report")
