"""Opening the prompts of both sides and the chat format: what does not serve is one line before any weights are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from abliterate.errors import InputError
from abliterate.pipeline.open_prompts import (
    check_recorded_prompts,
    open_chat,
    open_keep,
    open_look_alikes,
    open_prompts,
)
from fixtures.tiny_chat import TINY, options


def test_both_sides_are_what_the_options_name(tmp_path: Path) -> None:
    harmful, harmless = open_prompts(options(tmp_path))
    assert list(harmful.prompts) == (TINY / "harmful.txt").read_text().splitlines()
    assert list(harmless.prompts) == (TINY / "harmless.txt").read_text().splitlines()


def test_lists_that_do_not_serve_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.txt"):
        open_prompts(options(tmp_path, harmless=str(tmp_path / "gone.txt")))
    with pytest.raises(InputError, match="prompts are both harmful and harmless"):
        open_prompts(options(tmp_path, harmless=str(TINY / "harmful.txt")))


def test_a_template_that_fails_does_so_when_it_is_tried(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    assert "Name a river." in open_chat(options(tmp_path), tokenizer, tried="Name a river.").render("Name a river.")
    with pytest.raises(InputError, match=r"--chat-template .*gone.jinja: cannot be read"):
        open_chat(options(tmp_path, chat_template=tmp_path / "gone.jinja"), tokenizer)
    failing = tmp_path / "failing.jinja"
    failing.write_text("{{ raise_exception('no') }}")
    chat = open_chat(options(tmp_path, chat_template=failing), tokenizer)
    assert chat.template == failing.read_text(), "nothing is put to it until one is tried"
    with pytest.raises(InputError, match="the chat template fails"):
        open_chat(options(tmp_path, chat_template=failing), tokenizer, tried="Name a river.")
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="the model has no chat template"):
        open_chat(options(tmp_path), tokenizer)


def test_prompts_are_held_against_what_a_record_says(tmp_path: Path) -> None:
    given = options(tmp_path)
    harmful, _ = open_prompts(given)
    check_recorded_prompts(given, "harmful", harmful.digest)
    with pytest.raises(InputError, match=r"holds other harmless prompts than the run had; give them with --harmless"):
        check_recorded_prompts(given, "harmless", harmful.digest)
    with pytest.raises(InputError, match=r"than the run had \(theirs.txt\); give them with --harmful"):
        check_recorded_prompts(given, "harmful", None, "theirs.txt")


def test_a_template_that_writes_the_date_keeps_to_one_day(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    dated = tmp_path / "dated.jinja"
    dated.write_text("{{ strftime_now('%Y-%m-%d') }} {% for m in messages %}{{ m['content'] }}{% endfor %} Reply:")
    chat = open_chat(options(tmp_path, chat_template=dated, date="2024-02-29"), tokenizer)
    assert chat.render("Name a river.") == "2024-02-29 Name a river. Reply:"
    today = open_chat(options(tmp_path, chat_template=dated), tokenizer)
    assert today.moment is not None
    assert today.render("Name a river.").startswith(today.moment)
    assert open_chat(options(tmp_path, date="2024-02-29"), tokenizer).moment is None


def test_look_alikes_are_opened_where_they_go_and_a_list_to_keep_where_it_is_named(tmp_path: Path) -> None:
    plain = options(tmp_path)
    harmful, _ = open_prompts(plain)
    assert open_look_alikes(plain, harmful) is None
    assert open_keep(plain) is None
    found = open_look_alikes(replace(plain, mode="calm"), harmful)
    assert found is not None
    assert found.measured is not None
    assert (found.made_of.spec, found.measured.spec) == ("builtin:look-alikes", "builtin:look-alikes-report")
    with pytest.raises(InputError, match="prompts are in --look-alikes and in --harmful"):
        open_look_alikes(replace(plain, mode="calm", look_alikes=str(TINY / "harmful.txt")), harmful)
    kept = open_keep(replace(plain, keep="builtin:operator-rules"))
    assert kept is not None
    assert all(prompt.system for prompt in kept.prompts)  # type: ignore[attr-defined]
