"""Where a prompt ends in a thought."""

from __future__ import annotations

import pytest

from abliterate.prompts.think_blocks import HARMONY_REPLY, THINK_BLOCKS, think_block


@pytest.mark.parametrize(("opening", "closing"), THINK_BLOCKS)
def test_a_block_that_the_template_opens_is_one_whether_the_model_thinks_or_not(opening: str, closing: str) -> None:
    for thinks in (True, False):
        block = think_block(f"Why?{opening}\n", "", thinks)
        assert block is not None
        assert block.empty.startswith(f"Why?{opening}")
        assert block.empty == block.opened + block.closed
        assert block.tag == closing
        assert block.tag in block.closed
        assert think_block(block.empty, f"{opening} {closing}", thinks) is None  # closed: the reply is next


@pytest.mark.parametrize(("opening", "closing"), THINK_BLOCKS)
def test_a_block_that_the_model_opens_is_there_where_it_thinks_alone(opening: str, closing: str) -> None:
    template = f"{{# {opening} {closing} #}}"
    block = think_block("<|assistant|>\n", template, True)
    assert block is not None
    assert block.opened == f"<|assistant|>\n{opening}\n"
    assert think_block("<|assistant|>\n", template, False) is None
    assert think_block("<|assistant|>\n", "no thoughts here", True) is None


def test_harmony_thinks_whatever_it_is_told() -> None:
    block = think_block("<|start|>assistant", "{# <|channel|> #}", False)
    assert block is not None
    assert block.empty == "<|start|>assistant<|channel|>analysis<|message|>" + HARMONY_REPLY
