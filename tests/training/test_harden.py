"""Hardening."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from abliterate.errors import InputError, NoRefusalsError
from abliterate.prompts.prompt_set import PromptSet
from abliterate.training.harden import HardenResult, harden
from fixtures.training import printed, sets, tiny

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.*is_gradient_checkpointing.*:FutureWarning"
    ),  # peft 0.21 asks transformers 5.23
    # PEFT says of every adapter on a tied embedding that the head does not follow it, which is what is tested.
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*'pin_memory'.*:UserWarning"),
]


def hardened(seed: int) -> tuple[HardenResult, dict[str, torch.Tensor]]:
    model, tokenizer = tiny()
    result = harden(model, tokenizer, *sets(60), steps=3, batch_size=2, refresh=2, rank=2, seed=seed)
    return result, {name: one.clone() for name, one in result.model.state_dict().items() if "lora_" in name}


@pytest.mark.slow
def test_hardening_repeats_itself_and_trains_a_lora_alone() -> None:
    (one, first), (other, second) = (hardened(seed=0) for _ in range(2))
    assert one.losses == other.losses
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(bool(weight.any()) for name, weight in first.items() if "lora_B" in name)
    plain, _ = tiny()
    with one.model.disable_adapter(), torch.no_grad():
        tokens = torch.tensor([[1, 40, 50, 60]])
        assert torch.equal(one.model(tokens).logits, plain(tokens).logits)
    assert len(one.losses) == 3
    record = json.loads(json.dumps(one.to_json()))
    assert record["settings"]["steps"] == 3
    assert record["before"]["edited"]["total"] == record["after"]["edited"]["total"] > 0
    assert record["before"]["same"]["rate"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"steps 0: must be at least 1"),
        ({"batch_size": 0}, r"batch_size 0: must be at least 1"),
        ({"refresh": -1}, r"refresh -1: must be at least 1"),
        ({"rank": 0}, r"rank 0: must be at least 1"),
        ({"ablate_probability": 1.5}, r"ablate_probability 1\.5: must be from 0 to 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    model, tokenizer = tiny()
    with pytest.raises(InputError, match=message):
        harden(model, tokenizer, *sets(), **settings)


def test_a_model_that_does_not_refuse_has_nothing_to_defend() -> None:
    model, tokenizer = tiny()
    harmless = sets(120)[1]
    other = PromptSet("everyday", tuple(f"{one} Please." for one in harmless.prompts))
    with pytest.raises(
        NoRefusalsError, match=r"refuses \d of \d+ harmful training prompts; hardening needs at least 8"
    ):
        harden(model, tokenizer, other, harmless)


@pytest.mark.slow
def test_the_example_that_hardens() -> None:
    """The edit takes all refusals before and leaves most after; other machines round otherwise, so not to the reply."""
    lines = {line[:34].strip(): line[34:].split() for line in printed("harden.py").splitlines() if "/" in line}
    counts = {name: [int(one.partition("/")[0]) for one in found] for name, found in lines.items()}
    assert counts["harmful prompts, edited"][0] <= 2
    assert counts["harmful prompts, edited"][1] >= 15
    assert min(counts["harmful prompts"]) >= 40
    assert max(counts["harmless prompts"]) <= 6
    assert counts["(harmless replies unchanged)"][1] >= 25
