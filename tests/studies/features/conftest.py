"""The tiny model, a small corpus of it, and a file of its directions, for all tests of features."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate import capture, projected_difference_in_means
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.corpus import Corpus, corpus_of, prompts_of
from fixtures.tiny_chat import TINY, tiny_chat

SPECS = (str(TINY / "harmful.txt"), str(TINY / "harmless.txt"))


@pytest.fixture(scope="session")
def tiny_live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


@pytest.fixture(scope="session")
def corpus(tiny_live: LiveModel) -> Corpus:
    return corpus_of(tiny_live, SPECS, prompts_of(SPECS, 64), 8)


@pytest.fixture(scope="session")
def directions_file(tiny_live: LiveModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sides = [prompts_of([spec], 24) for spec in SPECS]
    found = projected_difference_in_means(*(capture(tiny_live.model, tiny_live.tokenizer, side) for side in sides))
    path = tmp_path_factory.mktemp("directions") / "directions.safetensors"
    found.save(path, -1)
    return path
