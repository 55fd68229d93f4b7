"""The loss on a text."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.evaluation.text_loss import WINDOW, read_windows, text_losses
from fixtures.evaluations import SHORT
from fixtures.tiny_chat import TINY


def test_the_loss_of_a_text_is_that_of_the_model_itself() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    assert SHORT.text is not None
    windows = read_windows(SHORT.text, tokenizer)
    assert max(map(len, windows)) == WINDOW
    assert len(set(map(len, windows))) == 2  # the last is shorter
    for window, loss in zip(windows, text_losses(model, windows), strict=True):
        ids = torch.tensor([window])
        with torch.no_grad():
            assert loss == pytest.approx(float(model(ids, labels=ids).loss), rel=1e-4)
