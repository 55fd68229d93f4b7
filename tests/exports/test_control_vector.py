"""A control vector in llama.cpp is `added`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from abliterate.directions.directions import Directions
from abliterate.errors import InputError
from abliterate.exports.control_vector import write_control_vector
from abliterate.interventions import added
from fixtures.gguf_adapters import Chat, close, fields, last_logits, tensors
from servers.llama_lora import ask


def test_the_control_vector_is_the_difference_itself(chat: Chat, tmp_path: Path) -> None:
    out = tmp_path / "control.gguf"
    assert write_control_vector(chat.directions, chat.model.config, out) == tuple(range(2, 9))
    held = tensors(out)
    assert set(held) == {f"direction.{number}" for number in range(1, 8)}
    for layer in range(2, 9):
        assert np.array_equal(held[f"direction.{layer - 1}"], chat.directions.difference(layer).numpy())
    assert fields(out) == {
        "general.architecture": "controlvector",
        "controlvector.model_hint": "llama",
        "controlvector.layer_count": 7,
    }


@pytest.mark.parametrize("layer", [2, 4, 7])
@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_llama_cpp_adds_what_added_adds(chat: Chat, tmp_path: Path, layer: int, scale: float) -> None:
    out = tmp_path / "control.gguf"
    write_control_vector(chat.directions, chat.model.config, out, layers=[layer])
    ids = chat.prompts[0]
    with added(chat.model, scale * chat.directions.difference(layer), layer) as hooked:
        expected = last_logits(hooked, ids)
    assert close(ask(chat.gguf, [ids], control=(out, scale))[0].logits, expected)
    assert not close(last_logits(chat.model, ids), expected)


def test_the_last_layer_can_be_reached(chat: Chat, tmp_path: Path) -> None:
    """`resid[L]` is what the final norm reads; `added` has no hook there."""
    out, vector, ids = tmp_path / "control.gguf", chat.directions.difference(8), chat.prompts[0]
    write_control_vector({8: vector}, chat.model.config, out)
    norm = chat.model.get_submodule("model.norm")
    hook = norm.register_forward_pre_hook(lambda module, args: (args[0] + vector, *args[1:]))
    expected = last_logits(chat.model, ids)
    hook.remove()
    assert close(ask(chat.gguf, [ids], control=(out, 1.0))[0].logits, expected)


@pytest.mark.parametrize(("scale", "refusals"), [(-1.0, (0, 0)), (0.5, (12, 3)), (0.0, (12, 0))])
def test_replies_are_those_of_the_hooks(chat: Chat, tmp_path: Path, scale: float, refusals: tuple[int, int]) -> None:
    out, vector = tmp_path / "control.gguf", chat.directions.difference(6)
    write_control_vector(chat.directions, chat.model.config, out, layers=[6])
    with added(chat.model, vector, 6, scale=scale) as hooked:
        expected = chat.here(hooked)
    assert chat.refusals(expected) == refusals
    assert chat.served(control=(out, scale)) == expected


@pytest.mark.parametrize("layer", [0, 1, 9])
def test_layers_that_llama_cpp_does_not_add_to_are_refused(chat: Chat, tmp_path: Path, layer: int) -> None:
    with pytest.raises(InputError, match=rf"resid\[{layer}\] cannot be reached by a control vector of llama.cpp"):
        write_control_vector({layer: torch.ones(160)}, chat.model.config, tmp_path / "control.gguf")


def test_what_does_not_fit_is_refused(chat: Chat, tmp_path: Path) -> None:
    config, out = chat.model.config, tmp_path / "control.gguf"
    with pytest.raises(InputError, match=r"resid\[3\] has shape \(48,\), the model d_model 160"):
        write_control_vector({3: torch.ones(48)}, config, out)
    with pytest.raises(InputError, match=r"there is no vector for resid\[5\]; there are 3"):
        write_control_vector({3: torch.ones(160)}, config, out, layers=[5])
    with pytest.raises(InputError, match="there is no vector to write"):
        write_control_vector({}, config, out)
    flat = Directions(torch.zeros(1, 9, 160), (-1,), "mean-difference")
    with pytest.raises(InputError, match=r"do not differ at resid\[3\]"):
        write_control_vector(flat, config, out, layers=[3])
    with pytest.raises(InputError, match="there is no vector to write"):
        write_control_vector(flat, config, out)
    out.write_text("mine")
    with pytest.raises(InputError, match="exists; pass --force to replace it"):
        write_control_vector(chat.directions, config, out)
    write_control_vector(chat.directions, config, out, force=True)
    assert fields(out)["general.architecture"] == "controlvector"
