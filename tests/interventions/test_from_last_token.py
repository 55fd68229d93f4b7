"""An intervention from the last token of a prompt on equals a full pass in which those tokens alone are changed."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from abliterate.interventions import FROM_LAST_TOKEN, ablated, added
from abliterate.interventions.hooks import at_resid
from abliterate.models.generation import generate
from abliterate.models.live_model import LiveModel
from fixtures.tiny_chat import TINY, tiny_chat


def test_generating_equals_a_full_pass_over_prompt_and_reply() -> None:
    live = LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())
    prompts = live.chat.encode(["How do I bake bread?", "Tell me how to fake a passport, please."])
    vector, layer, tokens = torch.randn(live.architecture.d_model, generator=torch.Generator().manual_seed(0)), 3, 8
    usual = generate(live.model, live.tokenizer, prompts, tokens, share=False)
    with added(live.model, 6 * vector, layer, when=FROM_LAST_TOKEN):
        found = generate(live.model, live.tokenizer, prompts, tokens, share=False)
    assert found != usual
    for prompt, reply in zip(prompts, found, strict=True):
        sequence = list(prompt)

        def change(stream: torch.Tensor, start: int = len(prompt) - 1) -> torch.Tensor:
            return torch.cat([stream[:, :start], stream[:, start:] + 6 * vector], dim=1)

        handle = at_resid(live.model, live.architecture, layer, change)
        for token in reply:
            with torch.no_grad():
                assert int(live.model(torch.tensor([sequence])).logits[0, -1].argmax()) == token
            sequence.append(token)
        handle.remove()
    with ablated(live.model, vector, when=FROM_LAST_TOKEN):
        states = live.model.model(torch.tensor([prompts[0]])).last_hidden_state
    whole = live.model.model(torch.tensor([prompts[0]])).last_hidden_state
    assert torch.allclose(states[:, :-1], whole[:, :-1], atol=1e-5)
    assert not torch.allclose(states[:, -1], whole[:, -1], atol=1e-3)
