"""How far an edit moves a model's predictions."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.evaluation.divergence import along_replies, diverge
from abliterate.evaluation.evaluation import Evaluation
from abliterate.evaluation.observation import Observation, Reply
from abliterate.models.head import Head
from abliterate.pipeline.evaluate_options import HARMLESS
from abliterate.pipeline.run import Result
from abliterate.prompts.chat_format import ChatFormat
from fixtures.models import random_model
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


def observed(states: list[torch.Tensor], *texts: str, scale: float = 1.0) -> Observation:
    """What a random model predicts along replies of 2, 0 and 3 tokens, its states multiplied."""
    tokens = [(5, 9), (), (7, 2, 60)]
    replies = tuple(Reply("p", ids, text) for ids, text in zip(tokens, texts, strict=True))
    return Observation((), replies, tuple(scale * one for one in states), Head(random_model("llama")))


def test_divergence_is_kl_of_the_whole_distributions_in_nats() -> None:
    states = [torch.randn(count, 48, generator=torch.Generator().manual_seed(count)) for count in (2, 1, 3)]
    said = ("I'm sorry, but I can't help with that.", "", "Sure.")
    original, edited = observed(states, *said), observed(states, *said, scale=0.5)
    model = random_model("llama")
    expected = []
    for one in states:
        with torch.no_grad():
            p, q = (model.lm_head(factor * one).double().log_softmax(-1) for factor in (1.0, 0.5))
        expected.append((p.exp() * (p - q)).sum(-1))
    found = along_replies(original, edited)
    for one, kl in zip(found, expected, strict=True):
        assert one.kl.tolist() == pytest.approx(kl.tolist(), rel=1e-4, abs=1e-6)
    assert [len(one.original_loss) for one in found] == [2, 0, 3]
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model.lm_head(states[2]), torch.tensor([7, 2, 60]), reduction="none")
    assert torch.allclose(found[2].original_loss, losses, atol=1e-4)
    divergence = diverge(original, edited)
    assert divergence.first_token.values == pytest.approx([float(kl[0]) for kl in expected], rel=1e-4)
    assert divergence.over_replies.values == pytest.approx([float(kl.mean()) for kl in expected], rel=1e-4)
    assert len(divergence.first_token_answered.values) == 2  # the first was refused
    assert divergence.first_token_answered.values == divergence.first_token.values[1:]


def test_a_model_does_not_diverge_from_itself() -> None:
    states = [torch.randn(count, 48) for count in (2, 1, 3)]
    same = diverge(observed(states, "a", "b", "c"), observed(states, "a", "b", "c"))
    assert {*same.first_token.values, *same.over_replies.values} == {0.0}
    assert all(
        bool(one.agree.all()) for one in along_replies(observed(states, "a", "b", "c"), observed(states, "a", "b", "c"))
    )
