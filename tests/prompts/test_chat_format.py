from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.prompts.chat_format import MAX_POSITIONS, ChatFormat, read_template

TURN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(str(resources.files("abliterate") / "data" / "tiny-chat"))


def test_positions_are_the_tokens_after_the_instruction(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatFormat(tokenizer)
    positions = chat.positions()
    assert positions == (-4, -3, -2, -1)
    first, second = chat.encode(["one thing", "another"])
    assert first[-4:] == second[-4:]
    assert tokenizer.decode(first[-4:]).strip().startswith("<|end|>")
    assert chat.instruction_end() == -5
    assert "one thing".endswith(tokenizer.decode([first[-5]]))
    assert "another".endswith(tokenizer.decode([second[-5]]))


def test_where_the_template_puts_nothing_behind_the_instruction_both_are_one(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    bare = ChatFormat(tokenizer, template="<|user|>{{ messages[-1]['content'] }}")
    assert (bare.instruction_end(), bare.positions()) == (-1, (-1,))


def test_positions_are_not_more_than_can_be_tried(tokenizer: PreTrainedTokenizerBase) -> None:
    long = ChatFormat(tokenizer, template=TURN + " and now comes a very long line that every template reader must see")
    assert long.positions() == tuple(range(-MAX_POSITIONS, 0))
    assert long.instruction_end() < -MAX_POSITIONS


def test_a_system_message_is_put_first(tokenizer: PreTrainedTokenizerBase) -> None:
    text = ChatFormat(tokenizer, system="Be short.").render("Hello")
    assert text.index("Be short.") < text.index("Hello")


def test_a_template_that_drops_the_system_message_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    dropping = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    with pytest.raises(InputError, match="drops the system message"):
        ChatFormat(tokenizer, system="Be short.", template=dropping).render("Hello")


def test_a_template_that_fails_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match="the chat template fails: no system role"):
        ChatFormat(tokenizer, template="{{ raise_exception('no system role') }}").render("Hello")
    with pytest.raises(InputError, match="the chat template fails"):
        ChatFormat(tokenizer, template="{% if %}").render("Hello")


SWITCHED = TURN + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
OPENED = TURN + "<think>\n"
GRANITE = TURN + "{% if thinking %} (think hard){% endif %}"


@pytest.mark.parametrize(
    ("template", "thinking", "end"),
    [
        (TURN, "auto", "<bot>"),
        (TURN, "on", "<bot>"),
        (SWITCHED, "auto", "<think>\n\n</think>\n\n"),
        (SWITCHED, "off", "<think>\n\n</think>\n\n"),
        (SWITCHED, "on", "<bot><think>\n\n</think>\n\n"),
        (OPENED, "auto", "<think>\n\n</think>\n\n"),
        (OPENED, "on", "<think>\n\n</think>\n\n"),
        (GRANITE, "on", "<bot> (think hard)"),
        (GRANITE, "off", "<bot>"),
    ],
)
def test_the_prompt_ends_where_the_reply_begins(
    tokenizer: PreTrainedTokenizerBase, template: str, thinking: str, end: str
) -> None:
    text = ChatFormat(tokenizer, thinking=thinking, template=template).render("Hello")  # type: ignore[arg-type]
    assert text.endswith(end)
    assert text.count("<think>") == text.count("</think>") <= 1


HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


@pytest.mark.parametrize("thinking", ["on", "off", "auto"])
@pytest.mark.parametrize(
    "source", [HARMONY, HARMONY.replace("assistant{% endif %}", "assistant<|channel|>analysis<|message|>{% endif %}")]
)
def test_harmony_thoughts_are_closed_by_the_final_channel(
    tokenizer: PreTrainedTokenizerBase, thinking: str, source: str
) -> None:
    text = ChatFormat(tokenizer, thinking=thinking, template=source).render("Hello")  # type: ignore[arg-type]
    assert text == (
        "<|start|>user<|message|>Hello<|end|><|start|>assistant<|channel|>analysis<|message|>"
        "<|end|><|start|>assistant<|channel|>final<|message|>"
    )


@pytest.mark.parametrize("wrong", ["{{ 1 // 0 }}", "{{ none.missing.twice }}", "{{ [][3] + 1 }}", "{{ 'a' + 1 }}"])
def test_whatever_a_template_raises_is_one_line(tokenizer: PreTrainedTokenizerBase, wrong: str) -> None:
    with pytest.raises(InputError, match=r"the chat template fails: .") as caught:
        ChatFormat(tokenizer, template=TURN + wrong).render("Hello")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_template(tmp_path: Path) -> None:
    (tmp_path / "template.jinja").write_text(TURN, encoding="utf-8-sig")
    assert read_template(tmp_path / "template.jinja") == TURN


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device"])
def test_a_template_is_read_from_a_file_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "own.jinja"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=rf"--chat-template .*own\.jinja: is {kind}; give a file"):
        read_template(path)


def test_a_template_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.jinja").write_bytes(b"\xe9")
    for name in ("latin.jinja", "gone.jinja", "no\0name"):
        with pytest.raises(InputError, match="cannot be read"):
            read_template(tmp_path / name)
