"""The plan on checkpoints whose layout on disk is not that in memory, and on those that hold more than the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import random_clone
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.plan import EditPlan, left_alone_note, make_plan
from abliterate.errors import CheckpointError, InputError
from abliterate.interventions.recipe import Recipe
from abliterate.models.source import resolve
from abliterate.projection import normalize
from abliterate.proofs.census import class_and_config, published_config
from fixtures.models import random_model
from fixtures.tiny_chat import TINY


def saved(model_type: str, folder: Path) -> PreTrainedModel:
    model = random_clone(*class_and_config(model_type, published_config(model_type)))
    model.save_pretrained(folder)
    return model


def planned(model: PreTrainedModel, folder: Path) -> EditPlan:
    architecture = find_architecture(model)
    direction = normalize(torch.ones(architecture.d_model))
    return make_plan(Recipe.uniform(), direction, architecture, model, Checkpoint.open(folder))


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Save the checkpoint again with other tensors; None takes one away."""
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    save_file(
        {name: one for name, one in tensors.items() if one is not None}, folder / "model.safetensors", {"format": "pt"}
    )


def test_experts_that_are_fused_in_memory_are_edited_one_by_one_on_disk(tmp_path: Path) -> None:
    plan = planned(saved("mixtral", tmp_path), tmp_path)
    experts = {name: edit for name, edit in plan.edits.items() if "experts" in name}
    assert {name.rpartition("experts.")[2] for name in experts} == {f"{number}.w2.weight" for number in range(8)}
    assert {edit.axis for edit in experts.values()} == {-2}


@pytest.mark.parametrize(("model_type", "axis"), [("gpt_oss", -1), ("llama4_text", -1), ("granitemoe", -2)])
def test_experts_that_are_fused_on_disk_keep_their_order(tmp_path: Path, model_type: str, axis: int) -> None:
    plan = planned(saved(model_type, tmp_path), tmp_path)
    axes = {
        edit.axis
        for name, edit in plan.edits.items()
        if edit.site == "mlp" and "shared" not in name and not name.endswith("bias")
    }
    assert axes == {axis}


def test_a_checkpoint_without_the_prefix_is_understood(tmp_path: Path) -> None:
    model = saved("gpt2", tmp_path)
    tensors = {
        name.removeprefix("transformer."): one for name, one in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert "h.0.attn.c_proj.weight" in planned(model, tmp_path).edits


def test_a_tied_head_that_is_stored_again_is_edited_too(tmp_path: Path) -> None:
    model = saved("gpt2", tmp_path)
    rewrite(tmp_path, **{"lm_head.weight": model.get_input_embeddings().weight.detach().clone()})
    edits = planned(model, tmp_path).edits
    assert torch.equal(edits["lm_head.weight"].basis, edits["transformer.wte.weight"].basis)


def test_what_the_model_does_not_load_is_left_alone_and_reported(tmp_path: Path) -> None:
    model = saved("llama", tmp_path)
    rewrite(tmp_path, **{"mtp.0.down_proj.weight": torch.ones(64, 8), "mtp.0.norm.weight": torch.ones(64)})
    plan = planned(model, tmp_path)
    assert plan.left_alone == ("mtp.0.down_proj.weight", "mtp.0.norm.weight")
    assert not set(plan.left_alone) & set(plan.edits)
    assert left_alone_note(plan.left_alone)[0].startswith(
        "2 tensors that the model does not load are left as they were"
    )
    assert left_alone_note(()) == ()


def test_a_writer_that_is_missing_is_named(tmp_path: Path) -> None:
    model = saved("llama", tmp_path)
    rewrite(tmp_path, **{"model.layers.1.mlp.down_proj.weight": None})
    with pytest.raises(CheckpointError, match=r"tensor model\.layers\.1\.mlp\.down_proj\.weight.*is missing"):
        planned(model, tmp_path)


def test_a_writer_of_another_shape_is_named(tmp_path: Path) -> None:
    model = saved("llama", tmp_path)
    rewrite(tmp_path, **{"model.layers.1.mlp.down_proj.weight": torch.ones(64, 9)})
    with pytest.raises(CheckpointError, match=r"down_proj\.weight is F32 \(64, 9\), expected floats \(64, 144\)"):
        planned(model, tmp_path)


CUSTOM = """
import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

class OddConfig(PreTrainedConfig):
    model_type = "odd"
    def __init__(self, vocab_size=97, hidden_size=48, num_hidden_layers=3, ffn_dim=80, **kwargs):
        self.vocab_size, self.hidden_size, self.ffn_dim = vocab_size, hidden_size, ffn_dim
        self.num_hidden_layers = num_hidden_layers
        super().__init__(**kwargs)

class Otter(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.zebra = nn.Linear(config.hidden_size, config.ffn_dim)
        self.yak = nn.Parameter(torch.randn(config.ffn_dim, config.hidden_size))
    def forward(self, hidden_states):
        mean = hidden_states.cumsum(1)
        return torch.tanh(self.zebra(mean)) @ self.yak

class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.otter = Otter(config)
        self.xerus = nn.Parameter(torch.ones(config.hidden_size))
    def forward(self, hidden_states):
        return hidden_states + LEAK(self.otter(hidden_states) * self.xerus)

class OddModel(PreTrainedModel):
    config_class = OddConfig
    base_model_prefix = "zoo"
    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.cages = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.post_init()
    def get_input_embeddings(self):
        return self.words
    def forward(self, input_ids=None, attention_mask=None, past_key_values=None, use_cache=None, **kwargs):
        hidden_states = self.words(input_ids)
        for cage in self.cages:
            hidden_states = cage(hidden_states)
        return BaseModelOutputWithPast(last_hidden_state=hidden_states)

class OddForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = OddConfig
    base_model_prefix = "zoo"
    def __init__(self, config):
        super().__init__(config)
        self.zoo = OddModel(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
    def get_input_embeddings(self):
        return self.zoo.words
    def get_output_embeddings(self):
        return self.head
    def forward(self, input_ids=None, **kwargs):
        hidden_states = self.zoo(input_ids, **kwargs)[0]
        return CausalLMOutputWithPast(logits=self.head(hidden_states))
"""


def custom_model(folder: Path, leak: str) -> Path:
    folder.mkdir()
    (folder / "odd.py").write_text(CUSTOM.replace("LEAK", leak))
    config = {
        "model_type": "odd",
        "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_custom_code_goes_through_the_same_door(tmp_path: Path) -> None:
    from abliterate.commands.inspect import inspect
    from abliterate.pipeline.options import Options

    folder = custom_model(tmp_path / "odd", "")
    one = inspect(Options(str(folder), tmp_path / "out", trust_remote_code=True))
    assert one.proved is not None
    modules = {writer.module: writer for writer in one.architecture.writers}
    assert set(modules) == {"zoo.words", *(f"zoo.cages.{layer}.otter" for layer in range(3))}
    assert [gain.parameter for gain in modules["zoo.cages.2.otter"].paths[0]] == ["zoo.cages.2.xerus"]


def test_custom_code_that_cannot_be_exact_is_not_proved(tmp_path: Path) -> None:
    from abliterate.commands.inspect import inspect
    from abliterate.pipeline.options import Options

    folder = custom_model(tmp_path / "leaky", "torch.tanh")
    one = inspect(Options(str(folder), tmp_path / "out", trust_remote_code=True))
    assert one.proved is None
    assert "zoo.cages.0: Tanh acts on what is written" in one.architecture.problems[0]


def test_a_layer_that_cannot_be_added_to(tmp_path: Path) -> None:
    source = resolve(str(TINY))
    empty = source.empty
    direction = torch.nn.functional.normalize(torch.randn(160), dim=0)
    for layer in (0, 8):
        with pytest.raises(InputError, match=rf"nothing can be added to resid\.{layer}; choose among layers 1, 2"):
            make_plan(Recipe.adding(1.0, layer), direction, find_architecture(empty), empty, source.checkpoint)


def test_a_plan_refuses_what_does_not_fit() -> None:
    from abliterate.checkpoints.checkpoint import Checkpoint

    other = random_model("llama")
    checkpoint = Checkpoint.open(Path(TINY))
    with pytest.raises(CheckpointError, match="config and weights belong to different models"):
        make_plan(Recipe.uniform(), torch.ones(48), find_architecture(other), other, checkpoint)
    with pytest.raises(InputError, match="belongs to another model"):
        make_plan(Recipe.uniform(), torch.ones(12), find_architecture(other), other, checkpoint)
    with pytest.raises(InputError, match="the recipe edits nothing"):
        make_plan(Recipe.uniform(0.0), torch.ones(48), find_architecture(other), other, checkpoint)
