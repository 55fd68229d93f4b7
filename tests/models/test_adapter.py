"""An adapter: whose it is, put on a model once, on and off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.adapter import adapter_folder, adapter_on, attach, base_of
from fixtures.models import random_model

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

TOKENS = torch.arange(5, 17).reshape(2, 6)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """The folder of an adapter that does something to the random llama, and the logits with it."""
    adapted = get_peft_model(random_model("llama"), LoraConfig(r=2, target_modules=["down_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", logits(adapted.eval())


def test_it_is_off_until_it_is_switched_on(llama: PreTrainedModel, adapter: tuple[Path, torch.Tensor]) -> None:
    folder, expected = adapter
    before = logits(llama)
    attach(llama, folder)
    assert torch.equal(logits(llama), before)
    with adapter_on(llama):
        assert torch.allclose(logits(llama), expected, atol=1e-5)
    assert torch.equal(logits(llama), before)
    with pytest.raises(ZeroDivisionError), adapter_on(llama):
        raise ZeroDivisionError
    assert torch.equal(logits(llama), before)
    assert not torch.allclose(expected, before, atol=1e-2)


def test_one_that_does_not_fit_is_one_line(adapter: tuple[Path, torch.Tensor]) -> None:
    folder, _ = adapter
    with pytest.raises(InputError, match=r"the adapter does not fit the model \(.*\); check --against") as caught:
        attach(random_model("llama", intermediate_size=96), folder)
    assert "\n" not in str(caught.value)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no adapter_model\.safetensors; only safetensors are read"):
        attach(random_model("llama"), folder)


def test_what_names_no_adapter(tmp_path: Path, adapter: tuple[Path, torch.Tensor]) -> None:
    folder, _ = adapter
    assert adapter_folder(str(folder)) == folder
    assert adapter_folder(str(tmp_path)) is None
    assert adapter_folder("model.gguf") is None
    assert adapter_folder(str(folder / "adapter_config.json")) is None
    with pytest.raises(InputError, match="no such folder or file, and not a Hub id"):
        adapter_folder("./nowhere")


def test_the_model_that_it_belongs_to(adapter: tuple[Path, torch.Tensor]) -> None:
    folder, _ = adapter
    config = folder / "adapter_config.json"
    fields = json.loads(config.read_text())
    config.write_text(json.dumps({**fields, "base_model_name_or_path": "me/mine"}))
    assert base_of(folder) == "me/mine"
    for name in (None, ""):
        config.write_text(json.dumps({**fields, "base_model_name_or_path": name}))
        with pytest.raises(InputError, match="does not name its model; pass it with --against"):
            base_of(folder)
    for text in ("{", "[]"):
        config.write_text(text)
        with pytest.raises(InputError, match=r"adapter_config\.json: cannot be read"):
            base_of(folder)


def test_no_module_is_imported_because_an_adapter_names_it(adapter: tuple[Path, torch.Tensor]) -> None:
    folder, _ = adapter
    config = json.loads((folder / "adapter_config.json").read_text())
    named = {**config, "megatron_config": {"a": 1}, "megatron_core": "antigravity"}
    (folder / "adapter_config.json").write_text(json.dumps(named))
    with pytest.raises(InputError, match=r"names a module to import .megatron_config., which is not supported here"):
        attach(random_model("llama"), folder)
    for text in ("[" * 100_000, "{", "\xff"):
        (folder / "adapter_config.json").write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"adapter_config.json: cannot be read"):
            attach(random_model("llama"), folder)
