"""How well a model holds out: rates of what it says, and the layer that an attacker would take."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.architectures.architecture import find_architecture
from abliterate.directions.candidates import DEEPEST
from abliterate.evaluation.statistics import Rate
from abliterate.interventions.ablation import ablated
from abliterate.progress import SILENT
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import PromptSet
from abliterate.replies.refusals import is_refusal
from abliterate.training import robustness as module
from abliterate.training.robustness import AttackedSide, Robustness, Subject, refusals, robustness
from fixtures.tiny_chat import TINY


def test_refusals_are_counted_by_the_rules() -> None:
    assert refusals(["I'm sorry, but I can't help with that.", "Sure.", ""]) == Rate(1, 3)


def test_the_record_holds_every_rate_and_the_layer() -> None:
    rates = [Rate(count, 9) for count in range(5)]
    record = Robustness(*rates, 4).to_json()
    assert list(record) == ["harmful", "harmless", "edited", "edited_harmless", "same", "layer"]
    assert [record[name]["count"] for name in list(record)[:5]] == [0, 1, 2, 3, 4]  # type: ignore[index]
    assert record["layer"] == 4


@pytest.fixture(scope="module")
def subject() -> Subject:
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    return Subject(model, ChatFormat(AutoTokenizer.from_pretrained(TINY)), find_architecture(model))


@pytest.mark.slow
def test_the_attacker_takes_the_layer_that_leaves_fewest_refusals(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ATTACK_PROMPTS", 6)
    harmful, harmless = (
        PromptSet(side, tuple((TINY / f"{side}.txt").read_text().splitlines()[:48])) for side in ("harmful", "harmless")
    )
    sides = {name: AttackedSide.of(subject.chat, name, harmful, harmless) for name in ("train", "select", "report")}
    answers = subject.replies(sides["report"].encoded_harmless)
    found = robustness(subject, sides, [*answers[:-1], "another"], SILENT)
    assert found.harmful.value == 1
    assert found.edited.count < found.harmful.count
    assert found.harmless == refusals(answers)
    assert found.same == Rate(len(answers) - 1, len(answers))
    directions = subject.directions(sides["train"])
    places = subject.places(directions)
    assert {layer for layer, _ in places} <= set(range(1, int(DEEPEST * 8)))
    left = {}
    for layer in sorted({layer for layer, _ in places}):
        with ablated(subject.model, directions[layer], architecture=subject.architecture):
            left[layer] = sum(map(is_refusal, subject.replies(sides["select"].encoded_harmful[:6])))
    assert left[found.layer] == min(left.values())
    assert found.layer == min(layer for layer, count in left.items() if count == min(left.values()))
