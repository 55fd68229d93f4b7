"""Two sides of one model: hooks are the edited checkpoint, and another original is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from abliterate.chat.conversation import Conversation, take_turn
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSides, open_sides
from abliterate.chat.stream import Reader
from abliterate.commands.apply import apply
from abliterate.errors import InputError
from fixtures.chat import BAD, GOOD, PROMPT, hooks_of, options, said
from fixtures.tiny_chat import TINY


@pytest.mark.slow
def test_hooks_reply_as_the_edited_checkpoint(edited: Path, sides: ChatSides) -> None:
    (alone,) = open_sides(options(edited), None).sides
    original, hooked = sides.sides
    for prompts in ((BAD, GOOD), (GOOD, BAD), ("Teach me to scam the plumber.",)):
        assert said(hooked, *prompts) == said(alone, *prompts)
    assert said(hooked, BAD) != said(original, BAD)


@pytest.mark.slow
def test_at_any_strength(edited: Path, tmp_path: Path) -> None:
    half = options(TINY, out=tmp_path / "half", layer=4, strength=0.5)
    apply(half, edited / "directions.safetensors", None)
    (alone,) = open_sides(options(half.out), None).sides
    _, hooked = open_sides(options(half.out), str(TINY)).sides
    assert said(hooked, BAD, GOOD) == said(alone, BAD, GOOD)


def test_the_edit_takes_the_memory_of_one_model(edited: Path, sides: ChatSides) -> None:
    one = open_sides(options(edited), None)
    assert one.note == "one model in memory: edited"
    assert sides.note == "one model in memory, the edit as hooks"
    assert sides.parameter_bytes == one.parameter_bytes
    assert sides.sides[0].model is sides.sides[1].model


def test_hooks_leave_no_trace(sides: ChatSides) -> None:
    model = sides.sides[0].model
    conversations = [Conversation(side, ChatOptions()) for side in sides.sides]
    turn = take_turn(conversations, GOOD)
    next(turn)
    assert hooks_of(model) == 0
    turn.close()
    assert hooks_of(model) == 0

    def fails(module: torch.nn.Module, args: object, output: object) -> None:
        raise MemoryError

    broken = model.get_submodule("model.layers.3").register_forward_hook(fails)
    for conversation in conversations:
        with pytest.raises(MemoryError):
            next(take_turn([conversation], GOOD))
    broken.remove()
    assert hooks_of(model) == 0
    # What a broken pass left of keys and values is forgotten.
    for conversation, side in zip(conversations, sides.sides, strict=True):
        conversation.reset(None)
        assert [*take_turn([conversation], BAD)][-1][0].text == said(side, BAD)[0]


def other_weights(folder: Path) -> Path:
    shutil.copytree(TINY, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_another_original_is_refused(edited: Path, tmp_path: Path) -> None:
    other = other_weights(tmp_path / "other")
    with pytest.raises(InputError, match=r"was not made from .*other, .*; its abliterate.json names tiny-chat"):
        open_sides(options(edited), str(other))
    copy = Path(shutil.copytree(edited, tmp_path / "copy"))
    manifest = json.loads((copy / "abliterate.json").read_text())
    manifest["source"]["revision"] = "abc"
    (copy / "abliterate.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="names tiny-chat at --revision abc"):
        open_sides(options(copy), str(other))


def test_another_recipe_is_refused(edited: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(edited, tmp_path / "copy"))
    recipe = json.loads((copy / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps({**recipe, "strengths": {"mlp": 1.0}}))
    with pytest.raises(InputError, match=r"is not the recipe that abliterate.json names"):
        open_sides(options(copy), str(TINY))


def test_without_a_recipe_both_are_loaded(edited: Path, sides: ChatSides, tmp_path: Path) -> None:
    other = Path(shutil.copytree(edited, tmp_path / "other"))
    (other / "recipe.json").unlink()
    both = open_sides(options(other), str(TINY))
    assert both.note == "two models in memory: other has no recipe.json"
    assert both.parameter_bytes == 2 * sides.parameter_bytes
    assert [said(side, BAD) for side in both.sides] == [said(side, BAD) for side in sides.sides]
    with pytest.raises(InputError, match=r"two models need .* are free; chat without --against"):
        open_sides(options(other, max_memory=1), str(TINY))


def adapter_of(folder: Path, **changes: object) -> Path:
    peft = pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(TINY)
    torch.manual_seed(0)
    lora = peft.LoraConfig(r=2, target_modules=["o_proj", "down_proj"], init_lora_weights=False)
    peft.get_peft_model(model, lora).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(TINY), **changes}))
    return folder


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_an_adapter_is_switched_on_and_off(sides: ChatSides, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = adapter_of(tmp_path / "adapter")
    both = open_sides(options(folder, dtype="float32"), str(TINY))
    assert both.note == "one model in memory, the adapter on and off"
    assert both.parameter_bytes < 1.2 * sides.parameter_bytes
    base = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(base, folder).eval()
    with torch.inference_mode():
        expected = merged(torch.tensor([PROMPT])).logits[0, -1].float()
    original, edited = both.sides
    assert torch.allclose(Reader(edited.model, edited.active).logits(PROMPT), expected, atol=1e-4)
    assert not torch.allclose(Reader(original.model, original.active).logits(PROMPT), expected, atol=1e-1)
    assert said(original, BAD, GOOD) == said(sides.sides[0], BAD, GOOD)
    alone = open_sides(options(folder, dtype="float32"), None)
    assert alone.note == "one model in memory: tiny-chat with the adapter"
    assert said(alone.sides[0], BAD) == said(edited, BAD)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
def test_an_adapter_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = adapter_of(tmp_path / "nameless", base_model_name_or_path=None)
    with pytest.raises(InputError, match="pass it with --against"):
        open_sides(options(nameless), None)
    with pytest.raises(InputError, match=r"weights need .* GB on cpu"):
        open_sides(options(nameless, max_memory=1), str(TINY))
    misfit = adapter_of(tmp_path / "misfit", target_modules=["q_proj"])
    with pytest.raises(InputError, match="the adapter does not fit the model"):
        open_sides(options(misfit), None)
    (nameless / "adapter_model.safetensors").rename(nameless / "adapter_model.bin")
    with pytest.raises(InputError, match=r"has no adapter_model.safetensors; only safetensors are read"):
        open_sides(options(nameless), str(TINY))
    (nameless / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match=r"adapter_config.json: cannot be read"):
        open_sides(options(nameless), None)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="reading an adapter needs peft, which is not installed: pip install "):
        open_sides(options(misfit), str(TINY))
