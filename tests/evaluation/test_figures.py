"""Figures are those of their definitions."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.evaluation.divergence import Along
from abliterate.evaluation.evaluation import Evaluation
from abliterate.evaluation.figures import NO_CATEGORY, JudgedReplies, by_length, damage, length_figure
from abliterate.evaluation.observation import Reply
from abliterate.evaluation.statistics import Rate
from abliterate.models.generation import generate
from abliterate.pipeline.evaluate_options import HARMFUL
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt import Prompt
from fixtures.tiny_chat import TINY


def test_refusals_at_a_length_are_those_of_replies_of_that_length(evaluation: Evaluation) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    prompts = [reply.prompt for reply in evaluation.model.sets[HARMFUL].replies]
    sequences = ChatFormat(tokenizer).encode(prompts)
    long, short = (generate(model, tokenizer, sequences, length) for length in (24, 8))
    said = tuple(Reply(prompt, tuple(ids), "") for prompt, ids in zip(prompts, long, strict=True))
    assert [one.tokens[:8] for one in said] == [tuple(one) for one in short]
    rows = by_length({HARMFUL: said}, 24, tokenizer.decode)
    assert [row["tokens"] for row in rows] == [8, 16, 24]


def along(*kl: float) -> Along:
    values = torch.tensor(kl, dtype=torch.float32)
    return Along(values, values < 1, values + 1, values + 3)


def test_each_convention_is_its_own_definition() -> None:
    """All replies begin with tokens 7, 8: the first reply token proper is the third."""
    replies = [Reply("a", (7, 8, 1, 2), "Sure."), Reply("b", (7, 8, 3), "I'm sorry, but I can't help with that.")]
    figures = {one.name: one for one in damage([along(1, 2, 4, 9), along(3, 5, 6)], replies)}
    means = {name: figure.model.value for name, figure in figures.items() if figure.model}
    assert means["KL, last prompt token"] == 2
    assert means["KL, last prompt token, where answered"] == 1
    assert means["KL, first reply token"] == 5
    assert means["KL, over the original's replies"] == pytest.approx((4 + 14 / 3) / 2)
    assert means["top-1 agreement"] == 0
    losses = figures["cross-entropy, original's replies"]
    assert losses.difference is not None
    assert losses.difference.mean.values == pytest.approx((2, 2))


def test_lengths_are_paired_only_where_all_are_told() -> None:
    def judged(*lengths: int | None) -> JudgedReplies:
        return JudgedReplies(
            tuple(Reply("a", (), "Yes.", True, length) for length in lengths), ("complied",) * len(lengths)
        )

    whole, holed = judged(3, 4, 9), judged(None, 4, 5)
    assert length_figure("harmful", whole, judged(3, 4, 8)).difference is not None
    for pair in ((whole, holed), (holed, whole), (holed, judged(3, None, 5))):
        figure = length_figure("harmful", *pair)
        assert figure.difference is None
        assert figure.model is not None
        assert figure.against is not None


def test_categories_have_rates_of_their_own() -> None:
    asked = [Prompt("a", category="x"), Prompt("b", category="y"), Prompt("c", category="x"), "d"]
    said = tuple(Reply(prompt, (), "") for prompt in asked)
    judged = JudgedReplies(said, ("refused", "refused", "complied", "refused"))
    assert judged.by_category() == {"x": Rate(1, 2), "y": Rate(1, 1), NO_CATEGORY: Rate(1, 1)}
    assert sum(rate.total for rate in judged.by_category().values()) == len(asked)
    assert [one.get("category") for one in judged.replies_json()] == ["x", "y", "x", None]
    assert JudgedReplies(said[3:], ("refused",)).by_category() == {}
