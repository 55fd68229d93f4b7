from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from abliterate.chat.sides import ChatSides, open_sides
from abliterate.pipeline.run import Result
from fixtures.chat import options
from fixtures.tiny_chat import TINY


@pytest.fixture(scope="session")
def edited(edited: Result) -> Path:
    return edited.out


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="session")
def sides(edited: Path) -> ChatSides:
    return open_sides(options(edited), str(TINY))
