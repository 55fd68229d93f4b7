"""What a model goes around is named in the first pass: an intervention has an effect, or says that it has none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import ArchitectureError
from abliterate.interventions.ablation import ablated
from abliterate.interventions.addition import added
from abliterate.interventions.affine import affine
from abliterate.interventions.effect import Watch, decoder_of
from abliterate.proofs.stream import streams
from fixtures.wrapped import SEQUENCES, TOKENS, hook_count, logits

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks transformers
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tied.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]


def around(layer: Any) -> None:
    """The MLP computes with the weight, without calling the module: fused kernels do so."""
    mlp = layer.mlp
    mlp.forward = lambda x: nn.functional.linear(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x), mlp.down_proj.weight)


def own_call(layer: Any) -> None:
    class Own(nn.Linear):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return self.forward(x)

    layer.mlp.down_proj.__class__ = Own


@pytest.mark.parametrize("change", [around, own_call])
def test_a_writer_that_the_model_goes_around_is_named_in_the_first_pass(
    llama: PreTrainedModel, direction: torch.Tensor, change: Callable[[Any], None]
) -> None:
    change(llama.model.layers[2])
    with (
        pytest.raises(ArchitectureError, match=r"model.layers.2.mlp.down_proj: the model computes without calling it"),
        ablated(llama, direction),
    ):
        logits(llama)
    assert hook_count(llama) == 0


def test_layers_that_the_model_goes_around_are_named(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    embed = llama.model.embed_tokens
    for layer in llama.model.layers:
        layer.__class__ = type("Own", (type(layer),), {"__call__": type(layer).forward})
    for enter in (ablated(llama, direction), added(llama, direction, 2), affine(llama, direction, 1.0)):
        with pytest.raises(ArchitectureError, match=r"model.layers.[0-3].*computes without calling it"), enter:
            logits(llama)
    with pytest.raises(ArchitectureError, match=r"model.layers.3: the model computes without calling it"):
        streams(llama, find_architecture(llama), SEQUENCES)
    assert embed is llama.model.embed_tokens
    assert hook_count(llama) == 0


def test_an_embedding_that_the_model_goes_around_is_named(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    embed = llama.model.embed_tokens
    with ablated(llama, direction):  # vectors instead of tokens are the caller's own
        llama(inputs_embeds=embed.weight[TOKENS].detach())
    embed.__class__ = type("Own", (nn.Embedding,), {"__call__": nn.Embedding.forward})
    with pytest.raises(ArchitectureError, match=r"model.embed_tokens: the model computes"), ablated(llama, direction):
        logits(llama)


def test_a_watch_sees_calls_and_goes_when_it_has_served() -> None:
    inner, idle = nn.Linear(2, 2), nn.Linear(2, 2)
    whole = nn.Sequential(inner)
    seen = []
    with ExitStack() as hooks:
        watch = Watch(hooks)
        watch.mark([inner, idle])
        watch.when_done(whole, lambda: bool(seen.append(set(watch.called))) or len(seen) == 2)
        for _ in range(3):
            whole(torch.ones(1, 2))
        assert seen == [{inner}, {inner}]  # the second answer was enough
        assert (hook_count(whole), hook_count(idle)) == (1, 1)
    assert (hook_count(whole), hook_count(idle)) == (0, 0)


def test_the_decoder_is_what_holds_the_layers(model: PreTrainedModel) -> None:
    assert decoder_of(model, find_architecture(model)) is model.base_model
