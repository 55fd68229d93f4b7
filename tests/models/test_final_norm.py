"""The final norm of any model, without its name."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from abliterate.architectures.architecture import find_architecture
from abliterate.interventions.hooks import at_output, hooks_of
from abliterate.models.final_norm import AT_ONCE, behind_final_norm
from fixtures.models import random_model


def test_rows_come_out_as_the_model_s_own_norm_makes_them(model: PreTrainedModel) -> None:
    rows = torch.randn(5, 48)
    found = find_architecture(model)
    seen: list[torch.Tensor] = []
    with torch.no_grad(), hooks_of() as hooks:
        last = model.get_submodule(found.layers[-1])
        hooks.callback(at_output(last, lambda stream: rows[None].clone()).remove)
        hooks.callback(
            model.get_output_embeddings().register_forward_pre_hook(lambda module, args: seen.append(args[0])).remove
        )
        model(torch.arange(5)[None])
    assert torch.allclose(behind_final_norm(model, found, rows), seen[0][0], atol=1e-5)


def test_many_rows_go_in_parts_and_the_layers_are_what_they_were() -> None:
    model = random_model("llama")
    found = find_architecture(model)
    tokens = torch.arange(6)[None]
    with torch.no_grad():
        before = model(tokens).logits
    rows = torch.randn(AT_ONCE // 4 + 3, 48)
    apart = torch.cat([behind_final_norm(model, found, one[None]) for one in rows])
    assert torch.allclose(behind_final_norm(model, found, rows), apart, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, before)
    assert not any("forward" in vars(module) for module in model.modules())
