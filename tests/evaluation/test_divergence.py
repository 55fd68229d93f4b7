"""How far an edit moves a model's predictions."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.evaluation.evaluation import Evaluation
from abliterate.pipeline.evaluate_options import HARMLESS
from abliterate.pipeline.run import Result
from abliterate.prompts.chat_format import ChatFormat
from fixtures.tiny_chat import TINY


def test_losses_are_those_of_the_model_itself(evaluation: Evaluation, edited: Result) -> None:
    """Cross-entropy along the original's replies, by transformers' own loss."""
    assert evaluation.against is not None
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    chat = ChatFormat(tokenizer)
    figure = evaluation.figure("cross-entropy, original's replies")
    assert figure is not None
    replies = evaluation.against.sets[HARMLESS].replies
    for folder, mean in ((edited.out, figure.model), (TINY, figure.against)):
        assert mean is not None
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for reply, value in list(zip(replies, mean.values, strict=True))[:5]:
            (prompt,) = chat.encode([reply.prompt])
            labels = torch.tensor([[-100] * len(prompt) + list(reply.tokens)])
            with torch.no_grad():
                loss = model(torch.tensor([[*prompt, *reply.tokens]]), labels=labels).loss
            assert value == pytest.approx(float(loss), abs=2e-4)
