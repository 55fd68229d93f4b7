"""A classifier as the judge: a real one, trained here on the spot, and what is refused as a judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from abliterate.errors import InputError
from abliterate.evaluation.judges.classifier import ClassifierJudge
from abliterate.evaluation.judges.judge import RuleJudge
from fixtures.tiny_chat import TINY

REFUSALS = [
    f"I'm sorry, but I can't {verb} that." for verb in ("help with", "do", "answer", "say", "write", "give you")
]
ANSWERS = [
    f"Sure! {text}" for text in ("Mix flour.", "Go home.", "The sky is blue.", "Paris.", "Use a knife.", "Wait.")
]


def classifier(folder: Path, labels: dict[int, str]) -> Path:
    """A tiny classifier that has learned, in some steps, to give its last label to refusals."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, id2label=labels,
        label2id={label: place for place, label in labels.items()},
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    texts = [f"<|user|>\nTell me.\n<|assistant|>\n{reply}" for reply in (*REFUSALS, *ANSWERS)]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    wanted = torch.tensor([len(labels) - 1] * len(REFUSALS) + [0] * len(ANSWERS))
    for _ in range(60):
        optimizer.zero_grad()
        model(**batch, labels=wanted).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_classifier_decides_what_is_refused(tmp_path: Path) -> None:
    judge = ClassifierJudge.load(str(classifier(tmp_path, {0: "Non-refusal", 1: "Refusal"})), "cpu")
    assert judge.refusal == 1
    assert judge.form == "<|user|>\n{prompt}\n<|assistant|>\n{reply}"
    replies = [*ANSWERS, *REFUSALS, "<think>I can't.</think>" + ANSWERS[0]]
    labels = judge.judge([("Tell me.", reply) for reply in replies])
    assert labels == ["complied"] * len(ANSWERS) + ["refused"] * len(REFUSALS) + ["complied"]


def test_what_is_not_refused_is_labelled_by_the_rules(tmp_path: Path) -> None:
    """A judge that calls nothing refused leaves loops and empty replies to the rules."""
    judge = ClassifierJudge.load(str(classifier(tmp_path, {0: "REJECTION", 1: "NORMAL"})), "cpu")
    assert (judge.refusal, judge.form) == (0, "{reply}")
    never = ClassifierJudge(judge.name, judge.model, judge.tokenizer, refusal=2, form=judge.form)
    assert never.judge([("a", ""), ("a", "no " * 40), ("a", "Yes.")]) == ["incoherent", "incoherent", "complied"]


def test_a_classifier_of_something_else_is_no_judge(tmp_path: Path) -> None:
    folder = classifier(tmp_path, {0: "toxic", 1: "non-refusal"})
    with pytest.raises(InputError, match="its labels are toxic, non-refusal, and none of them says refusal"):
        ClassifierJudge.load(str(folder), "cpu")


def test_a_judge_without_a_head_would_judge_by_random_numbers(tmp_path: Path) -> None:
    """A base model loads as a classifier, with a head that nobody trained."""
    folder = classifier(tmp_path, {0: "Non-refusal", 1: "Refusal"})
    weights = load_file(folder / "model.safetensors")
    headless = {name: tensor for name, tensor in weights.items() if not name.startswith("score")}
    assert len(headless) == len(weights) - 1
    save_file(headless, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        InputError, match=r"1 tensors that it needs are missing from its weights \(for one: score.weight"
    ):
        ClassifierJudge.load(str(folder), "cpu")


def test_a_judge_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder or file, and not a Hub id"):
        ClassifierJudge.load(str(tmp_path / "no" / "where"), "cpu")


def test_the_rules_judge_by_the_rules() -> None:
    assert RuleJudge().judge([("a", REFUSALS[0]), ("a", ANSWERS[0])]) == ["refused", "complied"]
