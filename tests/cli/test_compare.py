"""The tables of a comparison go into spreadsheets and pages: the names in them are nothing but names there."""

from __future__ import annotations

import csv
import io

import pytest

from abliterate.cli import compare
from abliterate.cli.compare import columns, compared_csv, compared_markdown, csv_text, markdown_text
from abliterate.evaluation.evaluation import Evaluation, Examined
from abliterate.evaluation.figures import JudgedReplies
from abliterate.evaluation.observation import Reply
from abliterate.evaluation.statistics import Rate
from abliterate.prompts.prompt import Prompt

BEFORE = ["", " ", "\n", "\r\n", "\xa0", "\u3000", "\ufeff", "\u200b", " \t ", "\x00", "\x85", "\u2028"]


@pytest.mark.parametrize("first", ["\t", "\r", *(before + sign for before in BEFORE for sign in "=+-@\uff1d\uff0b")])
def test_no_cell_is_a_formula(first: str) -> None:
    cell = csv_text(f"{first}cmd|' -C calc'!A0")
    assert cell.startswith("'")
    assert "cmd|' -C calc'!A0" in cell
    assert not set(cell) & set("\r\n")


@pytest.mark.parametrize("name", ["org/name-v2", "a=b", "models/-x", "", "ü"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert csv_text(name) == name
    assert markdown_text(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("<script>alert(1)\n# H", "&lt;script&gt;alert(1)\u240a# H"),
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("`code` *bold* ~~out~~", r"\`code\` \*bold\* \~\~out\~\~"),
        ("[link](https://example.org)", r"\[link\](https\://example.org)"),
        ("https://example.org www.example.org a@example.org", r"https\://example.org www\.example.org a\@example.org"),
        ("$x$ model@main", r"\$x\$ model@main"),
        ("_leaning_ my_model", r"\_leaning\_ my_model"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("a\x1b[2J\r", "a\u241b\\[2J\u240d"),
    ],
)
def test_no_name_is_markup(name: str, text: str) -> None:
    assert markdown_text(name) == text


def test_the_tables_hold_names_so_and_numbers_stay_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Estimate:
        value, interval = -0.5, (-1.0, 0.25)

    monkeypatch.setattr(compare, "columns", lambda _: [("=loss", [Estimate(), Estimate()])])
    monkeypatch.setattr(compare, "cell", lambda _: "-0.5")
    monkeypatch.setattr(compare, "names", lambda _: ["original", "=1+1\n|<b>"])
    heading, _, row = csv.reader(io.StringIO(compared_csv(())))
    assert heading == ["model", "'=loss", "'=loss low", "'=loss high"]
    assert row == ["'=1+1\u240a|<b>", "-0.5", "-1.0", "0.25"]
    assert compared_markdown(()).splitlines()[-1] == r"| =1+1\u240a\|&lt;b&gt; | -0.5 |".replace(r"\u240a", "\u240a")


def test_categories_are_columns_where_a_list_names_them() -> None:
    said = tuple(
        Reply(Prompt(text, category=category), (1,), "") for text, category in (("a", "cats|dogs"), ("b", "mice"))
    )
    original = Examined("original", {"harmful": JudgedReplies(said, ("refused", "refused"))})
    edited = Examined("edited", {"harmful": JudgedReplies(said, ("complied", "refused"))})
    found = [Evaluation({"prompts": {}}, edited, original)]
    headings = dict(columns(found))
    assert [str(one.count) for one in headings["refused, harmful: cats|dogs"] if isinstance(one, Rate)] == ["1", "0"]
    assert "refused, harmful: cats\\|dogs" in compared_markdown(found).splitlines()[0]
    assert "refused, harmful: mice low" in compared_csv(found).splitlines()[0]
