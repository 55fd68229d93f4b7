"""Examples to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.training.examples import read_examples
from fixtures.training import written

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.*is_gradient_checkpointing.*:FutureWarning"
    ),  # peft 0.21 asks transformers 5.23
    # PEFT says of every adapter on a tied embedding that the head does not follow it, which is what is tested.
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*'pin_memory'.*:UserWarning"),
]


@pytest.mark.parametrize(
    ("method", "content", "message"),
    [
        ("sft", [{"instruction": "a", "output": "b"}], r"has the columns instruction, output; --method sft takes messages or prompt\+completion or text"),
        ("sft", [{"prompt": "a", "chosen": "b", "rejected": "c"}], r"which --method dpo takes; sft takes messages"),
        ("dpo", [{"prompt": "a", "completion": "b"}], r"which --method sft takes; dpo takes prompt\+chosen\+rejected"),
        ("sft", [{"prompt": "a", "completion": "b"}, {"prompt": "a"}], r"row 2 has no completion; every row needs prompt and completion"),
        ("sft", [{"messages": "a"}], r"row 1: messages is a text; all must be texts or all conversations"),
        ("sft", [{"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}], r"prompt is a text, completion is a conversation; all must"),
        ("sft", [{"messages": [{"from": "human", "value": "a"}]}], r"row 1: messages is neither a text nor a list of"),
        ("sft", ["a"], r"row 1 is a str; expected an object with named columns"),
        ("sft", [], r"the dataset is empty; it needs a row for each example"),
        ("orpo", [], r"--method orpo: unknown; choose among sft, dpo"),
    ],
)  # fmt: skip
def test_datasets_that_cannot_be_learned_from(method: str, content: list[Any], message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", content)
    with pytest.raises(InputError, match=message):
        read_examples(path, method)


def test_datasets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.jsonl: no such file; check --dataset"):
        read_examples(str(tmp_path / "missing.jsonl"), "sft")
    (tmp_path / "rows.txt").write_text("a\n")
    with pytest.raises(
        InputError, match=r"rows\.txt: examples are read from \.jsonl, \.json, \.csv, \.tsv and \.parquet files"
    ):
        read_examples(str(tmp_path / "rows.txt"), "sft")
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(InputError, match=r"rows\.jsonl: not UTF-8 text at byte 10; save it as UTF-8"):
        read_examples(str(tmp_path / "rows.jsonl"), "sft")
    with pytest.raises(InputError, match=r"nothing at all: no such dataset; give a"):
        read_examples("nothing at all", "sft")
    with pytest.raises(InputError, match=r"org/none: the dataset cannot be read from the Hub"):
        read_examples("org/none", "sft", offline=True)


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    examples = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    (tmp_path / "rows.json").write_text(json.dumps([{**one, "more": 1} for one in examples]))
    (tmp_path / "rows.csv").write_text("prompt,completion\na,b\nc,d\n")
    parquet.write_table(pyarrow.Table.from_pylist(examples), tmp_path / "rows.parquet")
    written(tmp_path / "rows.jsonl", examples)
    for suffix in ("json", "csv", "parquet", "jsonl"):
        assert read_examples(str(tmp_path / f"rows.{suffix}"), "sft") == examples
        assert read_examples(str(tmp_path / f"rows.{suffix}"), "sft", limit=1) == examples[:1]
