"""Whatever a caller passes as prompts is what it means, or one line."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.given import given_prompts
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.prompt_set import PromptSet
from fixtures.prompts import TEXTS
from fixtures.tiny_chat import TINY

TURNS = [[{"role": "user", "content": text}] for text in TEXTS]
TABLE = datasets.Dataset.from_dict({"id": list(range(len(TEXTS))), "goal": TEXTS})

MEANT: dict[str, Any] = {
    "strings": TEXTS,
    "tuple": tuple(TEXTS),
    "conversations": TURNS,
    "ShareGPT": [[{"from": "human", "value": text}] for text in TEXTS],
    "parts": [[{"role": "user", "content": [{"type": "text", "text": text}]}] for text in TEXTS],
    "Dataset": TABLE,
    "Dataset of conversations": datasets.Dataset.from_dict({"messages": [[*one, {"role": "assistant", "content": "x"}] for one in TURNS]}),
    "column": TABLE["goal"],
    "Series": pd.Series(TEXTS),
    "Series with another index": pd.Series(TEXTS, index=range(50, 50 + len(TEXTS))),
    "Series of conversations": pd.Series(TURNS),
    "PromptSet": PromptSet("x", tuple(TEXTS)),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.mark.parametrize("name", MEANT)
def test_every_form_gives_the_same_tokens(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    assert given_prompts(MEANT[name]) == tuple(TEXTS)
    chat = ChatFormat(tokenizer)
    assert chat.encode(MEANT[name]) == chat.encode(TEXTS)


REFUSED: dict[str, tuple[Any, str]] = {
    "a string": ("How?", "one string, 'How\\?': put it into a list"),
    "bytes": (b"How?", "a bytes"),
    "a dict": ({"prompt": TEXTS}, "a dict"),
    "a DataFrame": (pd.DataFrame({"prompt": TEXTS}), "a DataFrame: pass its column"),
    "a DatasetDict": (datasets.DatasetDict(train=TABLE), "a DatasetDict: pass one of its splits"),
    "an array": (np.array(TEXTS), "a ndarray"),
    "a set": ({"a"}, "a set"),
    "a generator": ((text for text in TEXTS), "a generator"),
    "nothing": (None, "a NoneType"),
    "one conversation": (TURNS[0], "one conversation: put it into a list"),
    "rows": ([{"prompt": "a"}], "rows: pass the column of prompts"),
    "empty": ([], "there are no prompts"),
    "numbers": ([1, 2], "row 1 holds 1"),
    "nan": (pd.Series(["a", float("nan")]), "row 2 holds nan"),
    "lists of strings": ([["a", "b"]], "row 1 holds"),
    "a reply at the end": ([[*TURNS[0], {"role": "assistant", "content": "x"}]], "row 1 ends with a turn of the assistant"),
    "a tool": ([[{"role": "tool", "content": "x"}, *TURNS[0]]], "row 1 has a turn of another role"),
    "a late system": ([[*TURNS[0], {"role": "system", "content": "x"}, *TURNS[0]]], "row 1 has a turn of another role"),
    "half a pair": (["a\ud83d"], "row 1 holds half of a surrogate pair"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_rest_is_refused_in_one_line(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    given, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        ChatFormat(tokenizer).encode(given)
    assert len(str(caught.value).splitlines()) == 1


def test_a_conversation_is_put_whole(tokenizer: PreTrainedTokenizerBase) -> None:
    turns = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Why do cats purr?"},
    ]
    own = tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert ChatFormat(tokenizer).encode([turns]) == [own]
    other = [{**turns[0], "content": "Be long."}, *turns[1:]]
    assert ChatFormat(tokenizer, system="Be short.").encode([other]) == [own]  # the format's system message goes first


def test_a_prompt_brings_its_system_message(tokenizer: PreTrainedTokenizerBase) -> None:
    assert ChatFormat(tokenizer).encode([Prompt("Why?", system="Be short.")]) == ChatFormat(
        tokenizer, system="Be short."
    ).encode(["Why?"])
