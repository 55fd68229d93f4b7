"""Healing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
)

from abliterate.commands.heal import Healed, heal
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError
from abliterate.progress import Progress
from abliterate.proofs.stream import SILENCE
from abliterate.training.heal import heal_model
from abliterate.training.heal_options import HealOptions
from fixtures.checkpoints import snapshot
from fixtures.tiny_chat import TINY
from fixtures.training import EXACT, edited, printed, residue, rows, tiny, written

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


def healed_by(method: str, original: Path, folder: Path, **changes: Any) -> Healed:
    options = HealOptions(method, learning_rate=2e-3, steps=4, accumulation=1, rank=4, **changes)
    return heal(str(original), written(folder / "rows.jsonl", rows(method)), folder / "healed", options)


def silent(folder: Path, original: Path) -> float:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    return residue(model.eval(), load_file(original / "directions.safetensors")["resid.4"])


@pytest.mark.parametrize("method", ["sft", pytest.param("dpo", marks=pytest.mark.slow)])
def test_a_healed_checkpoint_learns_and_stays_silent(
    method: str, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = snapshot(original)
    healed = healed_by(method, original, tmp_path)
    assert healed.training.loss_after < healed.training.loss_before
    assert (healed.training.steps, healed.training.examples, healed.training.held_out) == (4, 21, 3)
    assert healed.proof.drift <= healed.proof.limit
    assert healed.proof.silence is not None
    assert max(healed.proof.per_layer) <= healed.proof.silence
    assert silent(healed.out, original) < SILENCE[torch.bfloat16]
    # Nothing but what was asked for: the source as it was, no file elsewhere, no word on stdout.
    assert snapshot(original) == before
    assert not list((tmp_path / "here").iterdir())
    assert {path.name for path in tmp_path.iterdir()} <= {"here", "rows.jsonl", "healed", ".healed.abliterate-lock"}
    assert capsys.readouterr().out == ""
    names = {path.name for path in healed.out.iterdir()}
    assert {"model.safetensors", "recipe.json", "directions.safetensors", "healed.json", "tokenizer.json"} <= names
    assert "README.md" in names
    assert "abliterate.json" not in names  # figures and proof of a model that it no longer is
    assert (healed.out / "config.json").read_bytes() == (original / "config.json").read_bytes()
    record = json.loads((healed.out / "healed.json").read_text())
    assert record["options"]["method"] == method
    assert str(tmp_path) not in json.dumps(record)


def test_an_adapter_is_healed_by_itself_and_again(original: Path, tmp_path: Path) -> None:
    healed = healed_by("sft", original, tmp_path, adapter=True)
    names = {path.name for path in healed.out.iterdir()}
    assert names == {
        "adapter_config.json", "adapter_model.safetensors", "recipe.json", "directions.safetensors", "healed.json", "README.md",
    }  # fmt: skip
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(original, dtype="float32"), healed.out)
    basis = load_file(original / "directions.safetensors")["resid.4"]
    assert residue(adapted.eval(), basis) < SILENCE[torch.bfloat16]


@pytest.mark.slow
def test_a_half_edit_keeps_its_half(tmp_path: Path) -> None:
    healed = healed_by("sft", edited(tmp_path, strength=0.5), tmp_path)
    assert healed.proof.drift <= healed.proof.limit
    assert healed.proof.per_layer == ()


def test_progress_is_told(original: Path) -> None:
    told: list[int] = []

    class Counting(Progress):
        def step(self, title: str, total: int, unit: str) -> Any:
            from contextlib import nullcontext

            assert (title, total, unit) == ("healing", 2, "steps")
            return nullcontext(told.append)

    model, tokenizer = tiny()
    basis = load_file(original / "directions.safetensors")["resid.4"]
    orthogonalize(model, basis)
    adapted, training = heal_model(
        model, tokenizer, rows("sft"), basis, options=HealOptions(steps=2, batch_size=2), progress=Counting()
    )
    assert told == [1, 1]
    assert training.steps == 2
    assert residue(adapted, basis) < EXACT


def test_what_cannot_be_healed(llama: PreTrainedModel, direction: torch.Tensor, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", rows("sft"))
    with pytest.raises(InputError, match=r"has no recipe\.json; heal a checkpoint that abliterate has edited"):
        heal(str(TINY), path, tmp_path / "healed")
    with pytest.raises(InputError, match=r"healing needs at least 2 examples, one of them to measure on; there are 1"):
        heal_model(llama, AutoTokenizer.from_pretrained(TINY), [{"text": "a"}], direction)
    with pytest.raises(InputError, match=r"--learning-rate -1\.0: must be above 0"):
        HealOptions(learning_rate=-1.0)
    assert not (tmp_path / "healed").exists()


@pytest.mark.slow
def test_the_example_that_heals() -> None:
    assert "largest component at any layer" in printed("heal.py")
