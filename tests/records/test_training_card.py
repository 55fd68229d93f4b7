"""The model cards of healed and hardened models: all that they say is in the record, and foreign text stays text."""

from __future__ import annotations

import copy
import math
import re
import shlex
from typing import Any

import pytest

from abliterate.evaluation.statistics import Rate
from abliterate.records.training_card import training_card, unchanged_text
from fixtures.model_cards import HOSTILE, body, metadata, numbers_in, outline, tokens

SHARED: dict[str, Any] = {
    "abliterate": "0.1.0",
    "versions": {"python": "3.12.4", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"},
    "source": {"model": "me/edited", "revision": "cdbee75f17c01a7cc42f", "files": {"model.safetensors": "8e1f77a3"}},
    "without_flag": {},
}

HEALED: dict[str, Any] = {
    **SHARED,
    "kind": "healed",
    "form": "checkpoint",
    "edited_from": {"model": "Qwen/Qwen3-0.6B", "revision": "aa11bb22"},
    "command": ["abliterate", "heal", "me/edited", "--dataset", "my pairs.jsonl", "--method", "dpo", "--out", "healed"],
    "dataset": "my pairs.jsonl",
    "dataset_digest": "5f1c" * 16,
    "direction": "resid.15",
    "dtype": "bfloat16",
    "options": {
        "method": "dpo", "adapter": False, "rank": 16, "learning_rate": None, "epochs": 1.0, "steps": None,
        "batch_size": 4, "accumulation": 8, "max_length": 1024, "beta": 0.1, "limit": None, "seed": 7,
    },
    "learning_rate": 1e-5,
    "training": {"steps": 57, "examples": 908, "held_out": 101, "loss_before": 0.6931, "loss_after": 0.4127},
    "proof": {"drift": 0.00213, "limit": 0.03125, "per_layer": [0.0012, 0.0034, 0.0029], "silence": 0.01},
}  # fmt: skip

HARDENED: dict[str, Any] = {
    **SHARED,
    "kind": "hardened",
    "form": "adapter",
    "command": ["abliterate", "me/edited", "--mode", "harden", "--steps", "300", "--out", "hard"],
    "prompts": {
        "harmful": {"spec": "builtin:harmful", "digest": "5f1c" * 16, "train": 88, "select": 32, "report": 65},
        "harmless": {"spec": "builtin:harmless", "digest": "a7d2" * 16, "train": 89, "select": 0, "report": 100},
    },
    "dtype": "float32",
    "reply_tokens": 48,
    "method": "refusal feature adversarial training, arXiv 2409.20089",
    "settings": {
        "steps": 300, "ablate_probability": 0.5, "rank": 16, "learning_rate": 0.001, "batch_size": 8, "refresh": 10,
        "seed": 0,
    },
    "targets": {"harmful": 81, "harmless": 86},
    "loss": {"first": 1.4321, "last": 0.0246},
    "before": {
        "harmful": Rate(62, 65).to_json(), "harmless": Rate(2, 100).to_json(), "edited": Rate(1, 65).to_json(),
        "edited_harmless": Rate(0, 100).to_json(), "same": Rate(100, 100).to_json(), "layer": 14,
    },
    "after": {
        "harmful": Rate(64, 65).to_json(), "harmless": Rate(3, 100).to_json(), "edited": Rate(47, 65).to_json(),
        "edited_harmless": Rate(4, 100).to_json(), "same": Rate(78, 100).to_json(), "layer": 17,
    },
}  # fmt: skip

RECORDS = pytest.mark.parametrize("record", [HEALED, HARDENED], ids=["healed", "hardened"])

FIXED = {"2409.20089", "95", "1", "0", "256"}
"""Numbers of the cards that are no measurements: the paper, the level of the intervals, strength 1, resid[0], sha256."""


def changed(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The record with the value at a dotted path replaced."""
    copied = copy.deepcopy(record)
    *parents, last = path.split(".")
    place = copied
    for name in parents:
        place = place[name]
    place[last] = value
    return copied


def test_front_matter_of_a_healed_checkpoint() -> None:
    theirs = "---\nlicense: apache-2.0\nlanguage: en\nbase_model: them/other\ntags: [chat]\n---\n# Theirs\n"
    assert metadata(training_card(HEALED, theirs)) == {
        "base_model": "me/edited",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "language": "en",
        "tags": ["abliterated", "abliterate", "refusal-direction"],
    }


def test_front_matter_of_adapters() -> None:
    healed, hardened = (
        metadata(training_card({**one, "form": "adapter"}, "---\nlicense: mit\n---\n")) for one in (HEALED, HARDENED)
    )
    for found in (healed, hardened):
        assert [found[name] for name in ("base_model", "base_model_relation", "library_name", "license")] == [
            "me/edited", "adapter", "peft", "mit",
        ]  # fmt: skip
    assert "abliterated" in healed["tags"]
    assert hardened["tags"] == ["abliterate", "refusal-direction", "adversarial-training"]


def test_base_model_of_what_is_on_no_hub() -> None:
    """A merged checkpoint descends from the model that was edited; an adapter fits the edited weights alone."""
    local = changed(HEALED, "source", {**HEALED["source"], "model": "edited", "revision": None})
    assert metadata(training_card(local, None))["base_model"] == "Qwen/Qwen3-0.6B"
    assert "base_model" not in metadata(training_card({**local, "form": "adapter"}, None))
    assert "base_model" not in metadata(training_card({**local, "edited_from": None}, None))
    hardened = changed(HARDENED, "source.model", "my folder")
    assert not {"base_model", "base_model_relation"} & set(metadata(training_card(hardened, None)))


@RECORDS
def test_every_number_shown_is_in_the_record(record: dict[str, Any]) -> None:
    text = re.sub(r"```.*?```", "", body(training_card(record, None)), flags=re.DOTALL)
    names = (*record["versions"].values(), "0.1.0", record["source"]["revision"], "Qwen/Qwen3-0.6B", "aa11bb22",
             "resid.15", "5f1c" * 16, "a7d2" * 16, "bfloat16", "float32")  # fmt: skip
    for known in names:
        text = text.replace(known, "")
    held = [*numbers_in(record), float(len(record.get("proof", {}).get("per_layer", [1])) - 1)]
    found = re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?%?", text)
    assert len(found) > 20
    for one in found:
        value = float(one.rstrip("%")) / (100 if one.endswith("%") else 1)
        near = any(math.isclose(value, other, rel_tol=5e-3, abs_tol=5e-4 if "%" in one else 0) for other in held)
        assert one in FIXED or near, one


def test_what_a_healed_card_says() -> None:
    text = training_card(HEALED, None)
    for part in (
        "(the edit was made from [Qwen/Qwen3-0.6B](https://huggingface.co/Qwen/Qwen3-0.6B) at commit `aa11bb22`)",
        "direct preference optimisation (DPO) of a LoRA, merged into the weights, in `bfloat16`",
        "- Dataset: `my pairs.jsonl`, sha256 of its rows `5f1c",
        "- 908 examples were learned in 57 optimiser steps, 101 were held out",
        "`beta` `0.1`, `seed` 7",
        "| Mean loss on 101 held-out examples (DPO's loss) | |",
        "| before training | 0.693 |\n| after | 0.413 |",
        "no edited weight moved by more than 0.00213 of the component that a random direction has (0.0312 would be",
        "from `resid[0]` to `resid[2]`, the component of the residual stream along the direction is at most 0.0034 of",
        "abliterate heal me/edited --dataset 'my pairs.jsonl' --method dpo --out healed",
        "`healed.json` holds the sha256 of its weights",
        "Refusals, divergence from\n  the original and general ability of the healed model were not measured",
        "Refusing is a part of how a model is kept from harm.",
    ):
        assert part in text, part
    assert "has no flag" not in text
    assert "%" not in body(text)


def test_what_a_hardened_card_says() -> None:
    text = training_card(HARDENED, None)
    for part in (
        "| Harmful prompts refused | 95.4% (87.3% to 98.4%), 62 of 65 | 98.5% (91.8% to 99.7%), 64 of 65 |",
        "| Harmful prompts refused, under the edit | 1.5% (0.3% to 8.2%), 1 of 65 | 72.3% (60.4% to 81.7%), 47 of 65 |",
        "| Harmless prompts refused, under the edit | 0.0% (0.0% to 3.7%), 0 of 100 | 4.0% (1.6% to 9.8%), 4 of 100 |",
        "| Layer of the edit | 14 | 17 |",
        "stayed the same to the letter: 78.0% (68.9% to 85.0%), 78 of 100.",
        "its refusals of 81 harmful and its answers to 86 harmless prompts",
        "Loss on the batch of the first step 1.43, of the last 0.0246",
        "abliterate me/edited --mode harden --steps 300 --out hard",
        "`hardened.json` holds the sha256 of its weights",
        "- Prompts, `harmful`: `builtin:harmful`, sha256",
        "They say nothing\n  of several directions",
    ):
        assert part in text, part
    assert "A model that refuses less" not in text


def test_what_was_not_measured_is_not_claimed() -> None:
    half = training_card(changed(changed(HEALED, "proof.per_layer", []), "proof.silence", None), None)
    assert "so silence of the residual stream was not asked for." in half
    assert "rounding allows" not in half
    assert training_card(changed(HEALED, "training.loss_before", math.nan), None).count("| not measured |") == 1
    empty = training_card(changed(HARDENED, "after.same", Rate(0, 0).to_json()), None)
    assert "to the letter: not measured." in empty


def test_settings_of_a_run_are_shown_and_others_are_not() -> None:
    sft = training_card(changed(changed(HEALED, "options.method", "sft"), "options.steps", 57), None)
    assert "`steps` 57" in sft
    assert "cross-entropy of the tokens, nats" in sft
    for name in ("`beta`", "`epochs`", "`limit`", "None"):
        assert name not in sft
    beyond = training_card({**HEALED, "without_flag": {"accumulation": 8}}, None)
    assert "- Settings that the command has no flag for, to be given from Python: `accumulation` 8" in beyond


FOREIGN = [
    (HEALED, ("source.model", "source.revision", "dataset", "direction", "versions.torch", "abliterate", "dtype",
              "edited_from.model", "edited_from.revision")),
    (HARDENED, ("source.model", "source.revision", "prompts.harmful.spec", "prompts.harmless.digest", "versions.peft",
                "dtype")),
]  # fmt: skip
"""Where a record holds text that someone else chose."""


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_adds_no_structure(text: str) -> None:
    for record, paths in FOREIGN:
        for path in paths:
            plain, hostile = (training_card(changed(record, path, one), None) for one in ("plain", text))
            assert outline(hostile) == outline(plain), path
            assert metadata(hostile) == metadata(plain), path
            assert not any("evil" in str(token.attrs) for token in tokens(hostile)), path


@pytest.mark.parametrize("name", ["`; rm -rf ~`", "**pairs** | [a](b)", "```\n# Injected"])
def test_the_name_of_a_dataset_shows_as_it_is(name: str) -> None:
    text = training_card({**HEALED, "dataset": name, "command": ["abliterate", "heal", ".", "--dataset", name]}, None)
    lines = [token for token in tokens(text) if token.type == "inline" and token.content.startswith("Dataset:")]
    seen = "".join(
        one.content for one in lines[0].children or () if one.type in ("text", "code_inline", "text_special")
    )
    expected = name.replace("\n", "\ufffd")
    assert seen.startswith(f"Dataset: {expected}, sha256")
    fences = [token for token in tokens(text) if token.type == "fence"]
    assert len(fences) == 1
    if name.isprintable():
        assert shlex.split(fences[0].content)[-1] == name


def test_training_that_changed_nothing_says_so() -> None:
    same = {**HEALED, "training": {**HEALED["training"], "loss_after": HEALED["training"]["loss_before"]}}
    left = {**HARDENED, "after": {**HARDENED["before"], "layer": 3}}
    for record, usual in ((same, HEALED), (left, HARDENED)):
        said = unchanged_text(record)
        assert said is not None
        assert said in training_card(record, None)
        assert unchanged_text(usual) is None
        assert said not in training_card(usual, None)
    moved = {**left, "after": {**left["after"], "same": Rate(99, 100).to_json()}}
    assert unchanged_text(moved) is None
