"""What a source knows of itself: its empty model, built once; and of its checkpoint, how that is quantised."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from abliterate.checkpoints import checkpoint as checkpoint_module
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.partial_blocks import dequantized_here
from abliterate.checkpoints.quantized_weight import quantised_tensors, quantized_weights
from abliterate.errors import CheckpointError, InputError
from abliterate.models import source as source_module
from abliterate.models.loading import choose_dtype, load_model, plan_offload
from abliterate.models.source import Source, auto_class, build_empty, read_config, resolve, resolve_config
from fixtures.models import random_model
from fixtures.tiny_chat import TINY


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the empty models that are built, and the checkpoints that are asked how they are quantised."""
    counts = Counter[str]()
    build, read = source_module.build_empty, checkpoint_module.quantized_pairs

    def counted_build(*args: object) -> object:
        counts["empty"] += 1
        return build(*args)  # type: ignore[arg-type]

    def counted_read(*args: object) -> object:
        counts["quantization"] += 1
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(source_module, "build_empty", counted_build)
    monkeypatch.setattr(checkpoint_module, "quantized_pairs", counted_read)
    return counts


def test_an_empty_model_and_a_quantisation_are_looked_for_once(built: Counter[str]) -> None:
    source = resolve(str(TINY))
    assert source.empty is source.empty
    assert all(one.is_meta for one in source.empty.parameters())
    for _ in range(2):
        load_model(source)
        assert plan_offload(source, torch.bfloat16, torch.device("cpu"), None) is None
        choose_dtype(source, "auto", torch.device("cpu"))
        dequantized_here(source.checkpoint)
        assert quantized_weights(source.checkpoint) == quantised_tensors(source.checkpoint) == {}
    assert built == {"empty": 1, "quantization": 1}
    resolve(str(TINY)).empty  # noqa: B018
    assert built == {"empty": 2, "quantization": 2}, "another source is another model"


def test_loading_changes_nothing_of_the_empty_model(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    source = resolve(str(tmp_path))
    before = {name: one.shape for name, one in source.empty.named_parameters()}
    config = source.empty.config.to_dict()
    live = load_model(source, "float32")
    live.model.layers[0].mlp = torch.nn.Identity()
    assert {name: one.shape for name, one in source.empty.named_parameters()} == before
    assert source.empty.config.to_dict() == config


def test_a_format_that_is_not_read_is_refused_before_anything_is_built(tmp_path: Path, built: Counter[str]) -> None:
    random_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match="quantised with gptq, which is not read"):
        resolve(str(tmp_path))
    assert not built["empty"]


def test_what_cannot_be_built_says_so_each_time(tmp_path: Path) -> None:
    random_model("llama").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nobody-knows"}')
    source = Source(str(tmp_path), Checkpoint.open(tmp_path))
    for _ in range(2):
        with pytest.raises(InputError, match="cannot be loaded"):
            source.empty  # noqa: B018


def test_a_folder_is_a_source_without_its_place(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "mine"))
    source = resolve(str(folder))
    assert (source.folder, source.public_name, source.revision) == (folder, "mine", None)
    assert source.shown_name == "mine"


def test_an_adapter_names_its_model_as_it_can_be_loaded(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "mine"))
    source = resolve(str(folder))
    assert source.adapter_base() == ("mine", None)
    assert source.adapter_base(keep_path=True) == (str(folder.resolve()), None)
    of_hub = replace(source, name="org/name@main", revision="607a30d")
    assert of_hub.adapter_base() == of_hub.adapter_base(keep_path=True) == ("org/name", "607a30d")


def test_a_revision_in_the_name_stands_in_commands_and_not_in_records() -> None:
    source = replace(resolve(str(TINY)), name="https://hf.co/org/name/tree/main")
    assert (source.public_name, source.shown_name) == ("org/name", "org/name@main")


def test_an_empty_model_has_its_shapes_and_no_weights() -> None:
    source = resolve(str(TINY))
    empty = source.empty
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    shapes = {entry.name: tuple(entry.shape) for shard in source.checkpoint.shards for entry in shard.tensors}
    assert {name: tuple(one.shape) for name, one in empty.state_dict().items() if name in shapes} == shapes
    name, other = resolve_config(str(TINY))
    assert name == "tiny-chat"
    assert other.config.to_dict() == empty.config.to_dict()


@pytest.mark.parametrize("read", [resolve, resolve_config])
def test_what_is_no_model_is_one_line(tmp_path: Path, read: object) -> None:
    with pytest.raises(InputError, match=r"\./nowhere: no such folder or file, and not a Hub id"):
        read("./nowhere")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"x\.gguf: no such file"):
        read(str(tmp_path / "x.gguf"))  # type: ignore[operator]


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(InputError, match=r"is a file; give a Hub id, a folder or a \.gguf file"):
        resolve(str(tmp_path / "weights.bin"))


def test_an_unknown_type_or_foreign_code_says_what_to_do(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "odd"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of"}))
    with pytest.raises(InputError, match="odd: cannot be loaded: ") as caught:
        _ = resolve(str(folder)).empty
    assert "\n" not in str(caught.value)
    mapping = {"AutoConfig": "configuration_odd.OddConfig", "AutoModelForCausalLM": "modeling_odd.Odd"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "odd", "auto_map": mapping}))
    (folder / "configuration_odd.py").write_text("raise SystemExit('was run')")
    with pytest.raises(InputError, match="its code is not part of transformers; read it, then pass --trust-remote"):
        _ = resolve(str(folder)).empty


def test_the_config_of_an_empty_model_is_its_own() -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=1)
    build_empty("x", config, False).config.num_hidden_layers = 9
    assert config.num_hidden_layers == 1


def test_a_multimodal_checkpoint_is_loaded_as_it_is_stored() -> None:
    config = AutoConfig.for_model("gemma3")
    whole = auto_class(config)
    assert whole.__name__ == "AutoModelForImageTextToText" or config.architectures is None
    config.architectures = ["Gemma3ForConditionalGeneration"]
    assert auto_class(config).__name__ == "AutoModelForImageTextToText"
    assert auto_class(AutoConfig.for_model("llama")).__name__ == "AutoModelForCausalLM"


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_of_the_hub_is_code(tmp_path: Path, key: str) -> None:
    """Compiled code, which transformers would fetch and run for a config that names it."""
    folder = Path(shutil.copytree(TINY, tmp_path / "model"))
    config = json.loads((TINY / "config.json").read_text())
    for kernel in ("org/kernel", "org/kernel@main:attention", "paged|org/kernel"):
        (folder / "config.json").write_text(json.dumps({**config, key: kernel}))
        for read in (lambda: resolve(str(folder)).empty, lambda: resolve_config(str(folder))):
            with pytest.raises(
                InputError, match=r"asks for the kernel .*org/kernel.* pass --trust-remote-code to allow it"
            ):
                read()
    assert read_config("model", folder, True).model_type == config["model_type"]


def test_an_adapter_on_top_of_a_model_is_not_loaded_unsaid(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(TINY, tmp_path / "model"))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/name", "peft_type": "LORA"}')
    with pytest.raises(
        InputError, match=r"holds a model and, in adapter_config.json, an adapter .*; merge it, or move"
    ):
        resolve(str(folder))
