"""Where a vector can be held that is added to the stream at every token: exact, or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.clone import clone_of, random_clone
from abliterate.edits import bias_sites as bias_sites_module
from abliterate.edits.bias_sites import find_bias_sites
from abliterate.errors import ArchitectureError
from abliterate.proofs.architecture import prove_addition
from abliterate.proofs.census import class_and_config, published_config


def small(name: str, **changes: object) -> PreTrainedModel:
    """Return a small random model of a type, as the proofs build it."""
    config = published_config(name)
    for field, value in changes.items():
        setattr(config, field, value)
    return random_clone(*class_and_config(name, config))


@pytest.mark.parametrize("name", ["gpt2", "opt", "phi", "gptj", "bloom", "gpt_oss", "starcoder2"])
def test_biases_on_disk_add_what_hooks_add(name: str) -> None:
    """Linear layers and Conv1D, parallel blocks, and the biases of fused experts."""
    model = small(name)
    bias_sites = find_bias_sites(model, find_architecture(model))
    assert set(bias_sites) == {1}
    assert all(one.bias for one in bias_sites.values())
    assert prove_addition(model) < 1e-5


@pytest.mark.parametrize(
    ("name", "module"),
    [("llama", "mlp.down_proj"), ("falcon", "self_attention.dense"), ("mamba", "mixer.out_proj")],
)
def test_without_biases_an_adapter_can_bring_one(name: str, module: str) -> None:
    model = small(name)
    (bias_site,) = find_bias_sites(model, find_architecture(model)).values()
    assert bias_site.bias is None
    assert bias_site.writer.module.endswith(module)
    assert prove_addition(model) == 0.0  # nothing on disk to prove


def test_what_a_block_scales_is_divided_out() -> None:
    model = small("granite", residual_multiplier=0.25)
    (bias_site,) = find_bias_sites(model, find_architecture(model)).values()
    assert bias_site.multiplier == pytest.approx(0.25)


def test_they_are_found_once_for_an_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every plan that adds asks for them; only what is another architecture is tried again."""
    built = []
    monkeypatch.setattr(
        bias_sites_module, "clone_of", lambda *args, **more: built.append(args) or clone_of(*args, **more)
    )
    model = small("gpt2")
    architecture = find_architecture(model)
    first = find_bias_sites(model, architecture)
    assert len(built) == 2, "clones of two depths"
    assert find_bias_sites(model, architecture) is first
    assert len(built) == 2
    fewer = replace(architecture, writers=tuple(one for one in architecture.writers if one.site != "mlp"))
    with pytest.raises(ArchitectureError, match="no writer of its blocks adds a constant"):
        find_bias_sites(model, fewer)
    assert len(built) == 4, "a copy with other writers does not take over what was found"
    prove_addition(model)
    assert len(built) == 6, "once for the clone of the proof, whatever the number of its layers"


@pytest.mark.parametrize("name", ["gemma3_text", "mixtral", "olmo2"])
def test_norms_and_weightings_behind_the_writer_are_refused(name: str) -> None:
    """Behind a norm nothing constant stays constant; an expert that is not called adds nothing."""
    model = small(name)
    with pytest.raises(ArchitectureError, match="abliterate export --to control-vector"):
        find_bias_sites(model, find_architecture(model))


def test_a_scale_that_depends_on_the_depth_is_refused() -> None:
    """MiniCPM divides by the root of its depth, which a clone of two layers does not share."""
    config = published_config("minicpm3")
    with torch.device("meta"):
        model = class_and_config("minicpm3", config)[0](config)
    with pytest.raises(ArchitectureError, match="abliterate export --to control-vector"):
        find_bias_sites(model, find_architecture(model))


def test_an_empty_model_is_enough() -> None:
    config = AutoConfig.for_model("gpt2", n_layer=5, n_embd=40, n_head=4)
    with torch.device("meta"):
        model = class_and_config("gpt2", config)[0](config)
    bias_sites = find_bias_sites(model, find_architecture(model))
    assert [one.writer.layer for one in bias_sites.values()] == [0, 1, 2, 3]
    assert [*bias_sites] == [1, 2, 3, 4]
