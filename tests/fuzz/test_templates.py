"""Whatever a chat template is, a prompt comes out of it whole, or it is refused in one short line, within seconds.

`ABLITERATE_FUZZ` is the number of inputs: 50, or 10000 by hand.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.thinking_modes import THINKING_MODES
from fixtures.mutations import fuzz, outcome
from fixtures.tiny_chat import TINY

PROMPT = "How do I bake bread?"

EXPRESSIONS = st.sampled_from(
    ["m.role", "m.content", "m['content'][0]['text']", "messages", "messages|length", "bos_token", "eos_token", "1 // 0",
     "none.a.b", "raise_exception('no')", "m.content | trim", "m.content | upper", "m.content | tojson", "range(9)",
     "'x' * 1000", "m.content[::-1]", "self.__class__", "m.__class__.__mro__", "strftime_now('%Y')", "thinking",
     "namespace(a=1).a", "dict(a=1)", "m.content.split('\\n')[5]", "loop.index", "messages[99].content", "'%s' % m", "lipsum()"]
)  # fmt: skip
TEXT = st.sampled_from(["<|user|>", "\n", "<think>", "</think>\n\n", "<|start|>assistant", "<|channel|>analysis<|message|>", "[THINK]", " "]) | st.text(max_size=8)  # fmt: skip
NODES = st.recursive(
    TEXT | EXPRESSIONS.map("{{{{ {} }}}}".format) | st.sampled_from(["{% generation %}", "{% endgeneration %}", "{% break %}", "{#", "{{", "%}"]),
    lambda inner: st.builds(
        "{{% {} %}}{}{{% {} %}}".format,
        st.sampled_from(["for m in messages", "if add_generation_prompt", "if m.role == 'user'", "for part in m.content",
                         "if part.type == 'text'", "macro f()", "filter upper", "set x", "if enable_thinking"]),
        st.lists(inner, max_size=4).map("".join),
        st.sampled_from(["endfor", "endif", "endif", "endmacro", "endfilter", "endset"]),
    ),
    max_leaves=12,
)  # fmt: skip
TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
TEMPLATES = (
    st.lists(NODES, min_size=1, max_size=6).map("".join)
    | st.builds("{}{}{}".format, NODES, st.just(TURNS), NODES)
    | st.text(min_size=1, max_size=60)
    | st.tuples(st.just(TURNS * 3), st.integers(0, 200)).map(lambda given: given[0][given[1] :])
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@fuzz
@given(source=TEMPLATES, system=st.none() | st.just("Be short."), thinking=st.sampled_from(THINKING_MODES))
def test_a_template_holds_the_prompt_or_is_refused(
    tokenizer: PreTrainedTokenizerBase, source: str, system: str | None, thinking: str
) -> None:
    text = outcome(lambda: ChatFormat(tokenizer, system, thinking, source).render(PROMPT))  # type: ignore[arg-type]
    assert text is None or PROMPT in text
    assert text is None or system is None or system in text
