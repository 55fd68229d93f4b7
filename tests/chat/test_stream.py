"""What is streamed is what is generated, and a token is read once."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.architectures.clone import random_clone
from abliterate.chat.stream import Reader, greedy, sampler, tokens, what_stays
from abliterate.errors import InputError
from abliterate.interventions import ablated
from abliterate.models.generation import generate
from fixtures.chat import PROMPT, hooks_of


def test_greedy_tokens_are_those_of_generate(
    model: PreTrainedModel, direction: torch.Tensor, tokenizer: PreTrainedTokenizerBase
) -> None:
    def streamed(reader: Reader) -> list[int]:
        return [*tokens(reader, PROMPT, {2}, 20, greedy)]

    plain = generate(model, tokenizer, [PROMPT], 20)[0]
    with ablated(model, direction):
        under_hooks = generate(model, tokenizer, [PROMPT], 20)[0]
    assert streamed(Reader(model)) == plain
    hooked = Reader(model, lambda: ablated(model, direction))
    assert streamed(hooked) == under_hooks
    assert not torch.allclose(hooked.logits(PROMPT), Reader(model).logits(PROMPT), atol=1e-2)
    assert hooks_of(model) == 0


READS = [PROMPT, [*PROMPT, 8], [*PROMPT, 8, 9, 7, 30], [*PROMPT, 8, 9, 3], PROMPT[:2], [*PROMPT] * 4, [*PROMPT] * 3]
"""Longer by one, by several, another end, shorter, longer than a sliding window, cut back into one that was filled."""


def test_what_is_kept_changes_no_logits(model: PreTrainedModel) -> None:
    reader = Reader(model)
    assert reader.kept == "all"
    for ids in [*READS, *READS[::-1]]:
        fresh = Reader(model).logits(ids)
        assert torch.allclose(reader.logits(ids), fresh, atol=1e-4 * float(fresh.abs().max()))


@pytest.mark.parametrize(("family", "kept"), [("qwen3_next", "steps"), ("jamba", "steps"), ("mamba", "nothing")])
def test_states_that_only_go_forward_change_no_logits(family: str, kept: str) -> None:
    config = AutoConfig.for_model(family)
    model = random_clone(AutoModelForCausalLM._model_mapping[type(config)], config, 0)
    reader = Reader(model.eval())
    assert reader.kept == what_stays(model) == kept
    for ids in ([3, 5, 7, 4], [3, 5, 7, 4, 9], [3, 5, 7, 4, 9, 6], [3, 5, 7, 4, 9, 6, 8, 3], [3, 5, 7, 6]):
        with torch.inference_mode():
            whole = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        assert torch.allclose(reader.logits(ids), whole, atol=1e-3 * float(whole.abs().max()))


def test_a_token_is_read_once(llama: PreTrainedModel) -> None:
    lengths: list[int] = []
    llama.get_input_embeddings().register_forward_hook(lambda module, args, output: lengths.append(args[0].shape[1]))
    reader = Reader(llama)
    reply = [*tokens(reader, PROMPT, set(), 3, greedy)]
    reader.logits([*PROMPT, *reply, 5, 6])
    assert lengths == [len(PROMPT), 1, 1, 3]


def test_draws_depend_on_the_seed_and_nothing_else() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))

    def draws(seed: int, temperature: float = 1.0) -> list[int]:
        choose = sampler(temperature, seed)
        return [choose(logits) for _ in range(20)]

    assert draws(1) == draws(1) != draws(2)
    assert len(set(draws(1))) > 1
    assert set(draws(1, 0.0)) == set(draws(1, 1e-4)) == {int(logits.argmax())}


def test_logits_that_are_no_numbers_are_an_error(llama: PreTrainedModel) -> None:
    with torch.no_grad():
        llama.model.norm.weight[0] = torch.nan
    with pytest.raises(InputError, match="logits are NaN or infinite; try --dtype float32"):
        Reader(llama).logits(PROMPT)


def test_what_was_read_as_no_numbers_is_not_kept(llama: PreTrainedModel) -> None:
    reader = Reader(llama)
    before = reader.logits(PROMPT)
    layer = llama.get_submodule("model.layers.0")
    with layer.register_forward_hook(lambda module, args, output: output * torch.nan), pytest.raises(InputError):
        reader.logits([*PROMPT, 8])
    assert torch.allclose(reader.logits(PROMPT), before, atol=1e-5)
    assert torch.isfinite(reader.logits([*PROMPT, 8, 9])).all()
