"""Replies depend on weights and prompt alone, whatever the generation config of the model folder says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.models.decoding import REFUSED, TAKEN, Decoding, Draws, NumbersOnly
from abliterate.models.generation import end_tokens, generate, generate_all
from abliterate.prompts.chat_format import ChatFormat
from fixtures.tiny_chat import TINY

HOSTILE: dict[str, Any] = {
    "do_sample": True, "temperature": 3.0, "top_k": 2, "top_p": 0.1, "min_p": 0.9, "top_h": 0.5, "typical_p": 0.2,
    "epsilon_cutoff": 0.1, "eta_cutoff": 0.1, "repetition_penalty": 3.0, "encoder_repetition_penalty": 0.3,
    "no_repeat_ngram_size": 1, "encoder_no_repeat_ngram_size": 1, "bad_words_ids": [[token] for token in range(20, 400)],
    "sequence_bias": [[[30], 50.0]], "suppress_tokens": [*range(20, 400)], "begin_suppress_tokens": [*range(20, 400)],
    "forced_bos_token_id": 40, "forced_eos_token_id": 41, "min_length": 60, "min_new_tokens": 24, "max_length": 3,
    "max_new_tokens": 1, "max_time": 1e-9, "stop_strings": ["a", "e", " "], "num_beams": 4, "num_return_sequences": 3,
    "early_stopping": "never", "length_penalty": 9.0, "exponential_decay_length_penalty": [2, 5.0],
    "renormalize_logits": True, "remove_invalid_values": True, "token_healing": True, "guidance_scale": 4.0,
    "use_cache": False, "cache_implementation": "static", "cache_config": {"backend": "none"}, "max_cache_len": 4,
    "use_mtp": True, "output_attentions": True, "output_hidden_states": True, "output_scores": True,
    "output_logits": True, "return_dict_in_generate": True, "pad_token_id": 50, "bos_token_id": 51,
    "decoder_start_token_id": 52, "is_assistant": True, "num_assistant_tokens_schedule": "heuristic",
    "assistant_confidence_threshold": 0.9, "prompt_lookup_num_tokens": 4, "assistant_ensemble_weight": 0.5,
    "speculation_type": "dflash", "disable_compile": False, "watermarking_config": {"bias": 9.0, "hashing_key": 7},
    "penalty_alpha": 0.6, "dola_layers": "high", "num_beam_groups": 2, "diversity_penalty": 1.0,
    "force_words_ids": [[40]], "constraints": [40], "prefill_chunk_size": 1, "transformers_version": "0.0.0",
    "custom_generate": "someone/else",
}  # fmt: skip
"""A value of each setting that changes replies or ends in an error, where it is listened to; of others, 3."""

FIELDS = sorted({name for name in vars(GenerationConfig()) if not name.startswith("_")} | set(HOSTILE))
FIELDS.remove("eos_token_id")  # where replies end is the model's own affair


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(TINY)


@pytest.fixture(scope="module")
def prompts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    harmful, harmless = ((TINY / name).read_text().splitlines()[:3] for name in ("harmful.txt", "harmless.txt"))
    return ChatFormat(tokenizer).encode([*harmful, *harmless])


@pytest.fixture
def tiny() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def replies(tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]) -> list[list[int]]:
    """What the model says when nothing is set."""
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
    return generate(model, tokenizer, prompts, 24)


def hostile(model: PreTrainedModel, *names: str) -> PreTrainedModel:
    for name in names:
        setattr(model.generation_config, name, HOSTILE.get(name, 3))
    return model


@pytest.mark.parametrize("name", FIELDS)
def test_no_setting_of_the_models_own_changes_a_reply(
    tiny: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    replies: list[list[int]],
    name: str,
) -> None:
    config = hostile(tiny, name).generation_config
    assert generate(tiny, tokenizer, prompts, 24) == replies
    assert tiny.generation_config is config, "what the user loaded stays as it was"


def test_all_settings_together_change_no_reply(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], replies: list[list[int]]
) -> None:
    assert generate(hostile(tiny, *FIELDS), tokenizer, prompts, 24) == replies


def test_a_function_that_the_folder_brings_is_not_called(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], replies: list[list[int]]
) -> None:
    def foreign(*args: Any, **how: Any) -> None:
        raise AssertionError

    tiny.generate = foreign
    assert generate(tiny, tokenizer, prompts, 24) == replies


@pytest.mark.parametrize("settings", [{"do_sample": True, "temperature": 2.0}, {"repetition_penalty": 1.8}])
def test_the_models_own_settings_are_followed_where_that_is_asked_for(
    tiny: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    replies: list[list[int]],
    settings: dict[str, Any],
) -> None:
    vars(tiny.generation_config).update(settings)
    own = Decoding("model", 5)
    state = torch.random.get_rng_state()
    found = generate(tiny, tokenizer, prompts, 24, decoding=own)
    assert found != replies
    assert torch.equal(torch.random.get_rng_state(), state), "draws elsewhere go on as they would have"
    assert generate(tiny, tokenizer, prompts, 24, decoding=own) == found
    draws = "do_sample" in settings
    assert (generate(tiny, tokenizer, prompts, 24, decoding=Decoding("model", 6)) != found) == draws


def test_a_penalty_is_that_of_transformers(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]
) -> None:
    tiny.generation_config.repetition_penalty = 1.8
    (found,) = generate(tiny, tokenizer, prompts[:1], 24, decoding=Decoding("model"))
    whole = tiny.generate(torch.tensor(prompts[:1]), max_new_tokens=24, do_sample=False)[0, len(prompts[0]) :].tolist()
    assert whole[: len(found)] == found
    assert len(found) > 3


@pytest.mark.parametrize("name", sorted(set(REFUSED) & set(HOSTILE)))
def test_settings_that_are_not_taken_token_by_token_are_refused(tiny: PreTrainedModel, name: str) -> None:
    with pytest.raises(InputError, match=f"sets {name} to .*--generation greedy"):
        Decoding("model").config(hostile(tiny, name))


def test_no_setting_is_both_taken_and_refused() -> None:
    assert not set(TAKEN) & set(REFUSED)
    assert set(TAKEN) <= set(FIELDS)


def test_logits_that_are_no_numbers_are_an_error_that_names_the_prompt(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]
) -> None:
    """Greedy decoding takes NaN for the greatest: the reply would be some token, which is no refusal."""
    handle = tiny.model.norm.register_forward_hook(lambda module, args, output: output * torch.nan)
    for batch_size in (1, 2):
        with pytest.raises(
            InputError, match=r"^prompt \d, token 1 of the reply: .*NaN or infinite; try --dtype float32"
        ):
            generate(tiny, tokenizer, prompts, 4, batch_size=batch_size)
    with pytest.raises(InputError, match=r"^harmless prompt \d"):
        generate_all(tiny, tokenizer, [[], prompts], 4, kinds=("harmful", "harmless"))
    handle.remove()
    for value in (torch.inf, -torch.inf, torch.nan):
        with torch.no_grad():
            tiny.model.norm.weight.fill_(value)
        for decoding in (Decoding(), Decoding("model")):
            tiny.generation_config.do_sample = True
            with pytest.raises(InputError, match="NaN or infinite"):
                generate(tiny, tokenizer, prompts[:2], 4, decoding=decoding)


def test_what_comes_after_the_end_of_a_reply_does_not_count() -> None:
    watch = NumbersOnly(2)
    good, bad = torch.zeros(2, 5), torch.tensor([[0.0] * 5, [torch.nan] + [0.0] * 4])
    masked = torch.full((2, 5), -torch.inf).index_fill(1, torch.tensor([3]), 1.0)
    for step, scores in enumerate((good, masked, bad)):
        watch(torch.zeros(2, 2 + step, dtype=torch.long), scores)
    assert watch.broken([2, 2]) is None
    assert watch.broken([9, 3]) == (1, 2)


def test_a_token_at_a_time_is_taken_as_all_at_once(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]
) -> None:
    tiny.generation_config.repetition_penalty, tiny.generation_config.min_new_tokens = 1.4, 6
    tiny.generation_config.do_sample = False
    decoding, ends = Decoding("model"), end_tokens(tiny, tokenizer)
    for prompt in prompts[:3]:
        choose, sequence = decoding.chooser(tiny, prompt, ends, 12), list(prompt)
        for _ in range(12):
            with torch.no_grad():
                token = choose(tiny(torch.tensor([sequence])).logits[0, -1])
            if token in ends:
                break
            sequence.append(token)
        assert [sequence[len(prompt) :]] == generate(tiny, tokenizer, [prompt], 12, decoding=decoding)


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    draws = Draws(3, [[place] for place in range(2000)])
    taken = draws(torch.zeros(2000, 1, dtype=torch.long), probabilities.log().expand(2000, 4)).argmax(-1)
    shares = taken.bincount(minlength=4) / 2000
    assert shares[1] == 0
    assert (shares - probabilities).abs().max() < 0.04


def test_what_is_sampled_heeds_no_setting_and_no_other_prompt(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], replies: list[list[int]]
) -> None:
    with torch.no_grad():
        tiny.model.norm.weight.mul_(0.3)  # it hardly doubts what to say
    sampled = Decoding("sampled", 5)
    state = torch.random.get_rng_state()
    found = generate(tiny, tokenizer, prompts, 12, decoding=sampled)
    assert torch.equal(torch.random.get_rng_state(), state), "draws elsewhere go on as they would have"
    assert found != [reply[:12] for reply in replies]
    hostile(tiny, "temperature", "top_k", "do_sample", "repetition_penalty")
    assert generate(tiny, tokenizer, prompts[::-1], 12, decoding=sampled, batch_size=2)[::-1] == found
    assert generate(tiny, tokenizer, prompts, 12, decoding=Decoding("sampled", 6)) != found
    assert sampled.record(tiny)["generation"]["settings"] == {}


def test_a_sampled_token_at_a_time_is_drawn_as_all_at_once(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]
) -> None:
    decoding, ends, sequence = Decoding("sampled", 4), end_tokens(tiny, tokenizer), list(prompts[0])
    choose = decoding.chooser(tiny, prompts[0], ends, 8)
    for _ in range(8):
        with torch.no_grad():
            token = choose(tiny(torch.tensor([sequence])).logits[0, -1])
        if token in ends:
            break
        sequence.append(token)
    assert [sequence[len(prompts[0]) :]] == generate(tiny, tokenizer, prompts[:1], 8, decoding=decoding)
