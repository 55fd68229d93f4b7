"""Two models can be held against each other only where they read and predict the same tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.models.same_tokens import Unloaded, check_alike
from abliterate.models.source import resolve
from fixtures.tiny_chat import TINY

TEXTS = ["How do I bake bread?"]


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(TINY, folder))


def unloaded(folder: Path) -> Unloaded:
    return Unloaded(folder.name, resolve(str(folder)))


def test_a_copy_is_alike_and_the_same_folder_is_not_even_read(tmp_path: Path) -> None:
    original = unloaded(TINY)
    check_alike(original, unloaded(copied(tmp_path / "copy")), TEXTS)
    same = Unloaded("same", original.source)
    check_alike(original, same, TEXTS)
    assert "tokenizer" not in vars(same)


def test_another_number_of_tokens(tmp_path: Path) -> None:
    folder = copied(tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 1}))
    with pytest.raises(InputError, match=r"other: cannot be held against tiny-chat, .*it predicts \d+ tokens"):
        check_alike(unloaded(TINY), unloaded(folder), TEXTS)


def test_another_token_of_the_same_number(tmp_path: Path) -> None:
    folder = copied(tmp_path / "other")
    text = (folder / "tokenizer.json").read_text()
    vocabulary = json.loads(text)["model"]["vocab"]
    word, number = max(vocabulary.items(), key=lambda entry: entry[1])
    tokenizer = json.loads(text)
    del tokenizer["model"]["vocab"][word]
    tokenizer["model"]["vocab"]["zzzz"] = number
    tokenizer["model"]["merges"] = [
        one for one in tokenizer["model"]["merges"] if "".join(one if isinstance(one, list) else one.split()) != word
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match=rf"its token {number} is 'zzzz', that of tiny-chat"):
        check_alike(unloaded(TINY), unloaded(folder), TEXTS)


def test_other_tokens_of_the_same_text(tmp_path: Path) -> None:
    folder = copied(tmp_path / "other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match=r"it makes other tokens of the prompt 'How do I bake bread\?'"):
        check_alike(unloaded(TINY), unloaded(folder), TEXTS)
