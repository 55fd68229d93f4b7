"""New adapters to train."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from transformers import (
    PreTrainedModel,
)

from abliterate.errors import InputError
from abliterate.models.source import resolve
from abliterate.training.lora import new_lora, new_lora_config, save_adapter
from fixtures.models import random_model

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


def test_training_needs_the_extra(llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="training needs peft, which is not installed: pip install "):
        new_lora(llama, 4, 0)


def test_the_scaling_is_twice_the_rank_unless_it_is_said() -> None:
    assert (new_lora_config(4).r, new_lora_config(4).lora_alpha, new_lora_config(4, 6).lora_alpha) == (4, 8, 6)


def test_a_saved_adapter_names_its_model(llama: PreTrainedModel, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path / "base")
    source = resolve(str(tmp_path / "base"))
    for keep, name in ((False, "base"), (True, str((tmp_path / "base").resolve()))):
        save_adapter(new_lora(random_model("llama"), 2, 0), source, tmp_path / f"adapter-{keep}", keep)
        config = json.loads((tmp_path / f"adapter-{keep}" / "adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == (name, None)
