"""One small study of the tiny model, for all tests that look at what a study holds."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.studies.positions.run import Positions, positions
from fixtures.tiny_chat import TINY, tiny_chat


@pytest.fixture(scope="session")
def tiny_live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


@pytest.fixture(scope="session")
def small(tiny_live: LiveModel) -> Positions:
    """Two forms, 24 phrases, no samples, three alphas: what little takes a few seconds."""
    return positions(
        tiny_live,
        load_phrases("builtin:phrases-tiny").first(24),
        load_forms().choose(["question", "reply-open"]),
        samples=0,
        tokens=12,
        alphas=(-1.0, 0.0, 1.0),
        quick=True,
        look_alikes=("Describe a lock.",),
    )
