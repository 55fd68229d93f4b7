from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.activations.capture import capture
from abliterate.directions.methods import difference_in_means
from fixtures.gguf_adapters import Chat, Small, small
from servers.llama_server import TINY_CHAT, tiny_gguf


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small("qwen2", tmp_path_factory.mktemp("qwen2"))


@pytest.fixture
def basis() -> Tensor:
    rows = torch.randn(2, 48, generator=torch.Generator().manual_seed(3))
    return torch.linalg.qr(rows.T)[0].T.contiguous()


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAT)
    sides = [(TINY_CHAT / f"{side}.txt").read_text().splitlines() for side in ("harmful", "harmless")]
    captured = [capture(model, tokenizer, side[:32]) for side in sides]
    directions = difference_in_means(*captured)
    path = tiny_gguf(tmp_path_factory.mktemp("tiny"))
    return Chat(model, tokenizer, directions, sides[0][32:44], sides[1][32:44], path)
