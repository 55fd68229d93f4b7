"""The day that a template writes is fixed, recorded and set again."""

from __future__ import annotations

from datetime import date, datetime

import pytest
from transformers import AutoTokenizer

from abliterate.errors import InputError
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.moment import dated, moment_of, read_date
from fixtures.tiny_chat import TINY

DATED = "{{ strftime_now('%d %b %Y') }} {% for message in messages %}{{ message['content'] }}{% endfor %} Reply:"
IF_DEFINED = (
    "{%- if strftime_now is defined %}{%- set day = strftime_now('%d %b %Y') %}{%- else %}{%- set day = '26 Jul 2024' %}{%- endif %}"
    "{{ day }} {% for message in messages %}{{ message['content'] }}{% endfor %} Reply:"
)


@pytest.mark.parametrize("template", [DATED, IF_DEFINED])
def test_a_set_day_is_written_whatever_the_day_is(template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    text = ChatFormat(tokenizer, template=template, moment="2024-02-29").render("Name a river.")
    assert text.startswith("29 Feb 2024 ")
    assert date.today().strftime("%d %b %Y") in ChatFormat(tokenizer, template=template).render("Name a river.")


def test_only_a_template_that_asks_for_it_has_a_day() -> None:
    assert moment_of("{{ messages }}", "2024-02-29") is None
    assert moment_of(DATED) == date.today().isoformat()
    assert moment_of(DATED, "2024-02-29") == "2024-02-29"
    assert dated(DATED, None) == DATED
    assert dated("{{ messages }}", "2024-02-29") == "{{ messages }}"


@pytest.mark.parametrize("text", ["yesterday", "2024-02-30", "29.02.2024", ""])
def test_what_is_no_day_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="is no day; write it as YYYY-MM-DD"):
        read_date(text)


@pytest.mark.parametrize("form", ["%d %b %Y", "%Y-%m-%d", "%B %d, %Y", "%A, %-d. %B %y %H:%M:%S", "100 %% %j"])
@pytest.mark.parametrize("before", ["", "\n", "  ", "\n  x"])
def test_the_clock_of_a_template_is_the_only_thing_that_changes(form: str, before: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    body = (
        "{% set form = 'FORM' %}{{ strftime_now(form) }}|{% for m in messages %}{{ m['content'] }}{% endfor %} Reply:"
    )
    written = before + body.replace("FORM", form)
    noon = datetime(2024, 2, 29, 12).strftime(form)
    plain = ChatFormat(tokenizer, template=before + body.replace("{{ strftime_now(form) }}", noon)).render(
        "Name a river."
    )
    assert ChatFormat(tokenizer, template=written, moment="2024-02-29").render("Name a river.") == plain
