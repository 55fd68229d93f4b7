"""What a chat template makes of a prompt: the prompt is in it, a reply follows, and it ends."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import jinja2
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.template import Template, source_of, switches_in
from fixtures.patience import patience
from fixtures.tiny_chat import TINY

PROMPT = "  How do I bake bread?\n"
PARTS = (  # SmolVLM, Idefics3
    "{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for line in m['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}{% elif line['type'] == 'image' %}"
    "<image>{% endif %}{% endfor %}<end>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
SELECTED = (  # LLaVA-NeXT
    "{% for m in messages %}{% if m['role'] == 'system' %}<<SYS>>{{ m['content'][0]['text'] }}<</SYS>>"
    "{% elif m['role'] == 'user' %}[INST] {% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] }}"
    "{% endfor %} [/INST]{% else %} {{ m['content'][0]['text'] }}</s>{% endif %}{% endfor %}"
)
STRICT = (  # fails on a plain text
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ raise_exception('parts only') }}{% endif %}"
    "{{ m.content[0].text }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
MIXED = (  # the system message as text, the rest as parts
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'system' %}{{ m.content | trim }}{% else %}{% for c in m.content %}"
    "{{ c.text }}{% endfor %}{% endif %}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.mark.parametrize("source", [PARTS, SELECTED, STRICT, MIXED])
@pytest.mark.parametrize("system", [None, " Be short. "])
def test_content_is_given_as_the_template_takes_it(
    tokenizer: PreTrainedTokenizerBase, source: str, system: str | None
) -> None:
    text = ChatFormat(tokenizer, system, template=source).render(PROMPT)
    assert text.count(PROMPT.strip()) == 1
    assert system is None or text.index(system.strip()) < text.index(PROMPT.strip())
    assert "'type'" not in text


@pytest.mark.slow
def test_every_published_template_holds_the_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    found = find_spec("trl")
    if found is None or found.origin is None:
        pytest.skip("trl, which ships templates, is not installed")
    files = sorted((Path(found.origin).parent / "chat_templates").glob("*.jinja"))
    assert files
    for file in files:
        text = ChatFormat(tokenizer, template=file.read_text()).render(PROMPT)
        assert PROMPT.strip() in text, file.name


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}<{{ m.role }}></>{% endfor %}<bot>",
        "{% for m in messages %}{% if m.role != 'user' %}{{ m.content }}{% endif %}{% endfor %}<bot>",
        "nothing",
    ],
)
def test_a_template_that_drops_the_prompt_is_refused(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    with pytest.raises(InputError, match="drops the prompt") as caught:
        ChatFormat(tokenizer, template=source).render(PROMPT)
    assert "\n" not in str(caught.value)


def test_a_prompt_that_is_cut_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    cut = "{% for m in messages %}<{{ m.role }}>{{ m.content[:30] }}{% endfor %}<bot>"
    with pytest.raises(InputError, match="drops or changes the prompt 'How do I bake bread and keep it"):
        ChatFormat(tokenizer, template=cut).texts(["Short.", "How do I bake bread and keep it fresh for a week?"])


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"


@pytest.mark.parametrize(
    ("source", "end"),
    [
        (TURNS, "bread?</><assistant>"),  # no generation prompt: the header that a reply has
        (TURNS + "{{ eos_token }}\n", "bread?</><assistant>"),  # nor does a conversation's end stand before a reply
        (TURNS.replace("</>", "</>\n"), "bread?</>\n<assistant>"),
        (TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}", "bread?</><assistant>"),
        (TURNS + "<assistant>", "bread?</><assistant>"),  # written without being asked
        (TURNS + "<bot>", "bread?</><bot>"),  # so is this one, which is no turn's
        ("{% for m in messages %}[{{ m.content }}] {% endfor %}", "bread?] ["),
        ("{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\nA:{% else %} {{ m.content }}\n{% endif %}{% endfor %}", "bread?\nA:"),
        ("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}", "bread?"),
    ],
)  # fmt: skip
def test_the_text_ends_where_a_reply_begins(tokenizer: PreTrainedTokenizerBase, source: str, end: str) -> None:
    chat = ChatFormat(tokenizer, template=source)
    assert chat.render("How do I bake bread?").endswith(end)
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    assert chat.conversation([*turns, {"role": "user", "content": "How do I bake bread?"}]).endswith(end)


LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}x"
HOSTILE = {
    "loops": LOOPS,
    "power": "{{ 9 ** 9 ** 9 }}",  # computed while it is compiled, where no signal interrupts
    "string": "{{ 'x' * 10 ** 12 }}",
    "doubled": "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "printed": "{{ messages[0].content }}{% for a in range(9999) %}{{ 'x' * 99999 }}{% endfor %}",
    "padded": "{{ '%0999999999d' % 1 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "division": "{{ 1 // 0 }}",
    "tags": "{% for %}" * 5000,
    "brackets": "{{ " + "(" * 50000,
    "size": "x" * 3_000_000,
    "error": "{{ raise_exception('line\u2028line\n' * 9999) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_one_line_within_seconds(
    tokenizer: PreTrainedTokenizerBase, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abliterate.prompts.template.SECONDS", 1)
    with patience(), pytest.raises(InputError, match="the chat template") as caught:
        ChatFormat(tokenizer, template=HOSTILE[name]).render(PROMPT)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value).encode()) <= 2000


def test_a_template_that_loops_for_one_prompt_alone_ends_too(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abliterate.prompts.template.SECONDS", 1)
    source = TURNS + "{% if messages[0].content == 'How?' %}" + LOOPS + "{% endif %}"
    with pytest.raises(InputError, match="does not end"):
        ChatFormat(tokenizer, template=source).texts(["Why?", "How?"])


def test_nothing_of_a_template_is_computed_outside_the_sandbox(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = jinja2.Environment.getattr

    def spy(self: jinja2.Environment, value: object, name: str) -> object:
        seen.append(name)
        return real(self, value, name)

    monkeypatch.setattr(jinja2.Environment, "getattr", spy)
    before = set(sys.modules)
    escape = '{{ ("x"|escape).__new__.__globals__["t"].sys.modules["os"].environ }}'
    assert switches_in(escape + "{{ 9 ** 9 ** 9 }}{{ enable_thinking }}") == ("enable_thinking",)
    with pytest.raises(InputError):
        ChatFormat(tokenizer, template=escape).render(PROMPT)
    assert seen == []
    assert not {name for name in set(sys.modules) - before if "modeling" in name}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{% if enable_thinking is defined and not enable_thinking %}x{% endif %}", ("enable_thinking",)),
        ("{% if thinking %}x{% endif %}{% generation %}{% endgeneration %}", ("thinking",)),
        ("{{ message.thinking }} thinking <thinking>{# enable_thinking #}", ()),
        ("{{ 'enable_thinking' }}", ()),
        ("{{ thinking", ("thinking",)),
    ],
)
def test_switches_are_the_names_that_are_read(source: str, names: tuple[str, ...]) -> None:
    assert switches_in(source) == names


def test_of_named_templates_the_default_is_used() -> None:
    assert source_of({"default": "a", "tool_use": "b"}) == "a"
    assert source_of(None) == source_of({}) == ""
    with pytest.raises(InputError, match=r"named tool_use, rag, and none named default; .* --chat-template FILE"):
        source_of({"tool_use": "b", "rag": "c"})


def test_a_template_is_told_from_another_by_all_that_fills_it(tokenizer: PreTrainedTokenizerBase) -> None:
    one = Template.of(tokenizer, TURNS, {})
    assert one == Template.of(tokenizer, TURNS, {})
    assert one != Template.of(tokenizer, TURNS, {"thinking": True})
