"""How the next token is taken from the logits: the likeliest, drawn, or as the model's own generation config draws it.

What a model folder says of generation (penalties, suppressed tokens, minimum lengths, beams, caches) has no part in greedy
replies: they depend on weights and prompt alone. transformers fills whatever a config leaves open from the model's own,
so that is taken away while it generates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.generation_modes import Manner

TAKEN = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
    "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "min_length", "min_new_tokens",
    "exponential_decay_length_penalty", "renormalize_logits",
)  # fmt: skip
"""Settings of a model's generation config that `--generation model` follows: those that say how a token is taken."""

REFUSED = {
    "num_beams": 1, "num_return_sequences": 1, "num_beam_groups": 1, "penalty_alpha": 0, "guidance_scale": 1,
    "encoder_repetition_penalty": 1, "encoder_no_repeat_ngram_size": 0, "watermarking_config": None,
    "stop_strings": None, "dola_layers": None, "constraints": None, "force_words_ids": None, "token_healing": False,
}  # fmt: skip
"""Settings that make replies in another way than token by token, and their value that does nothing.

The others say how fast it goes, or what is returned besides."""

NEVER = -1


@dataclass(frozen=True)
class Decoding:
    """How replies are made: `greedy`, with the sampling settings of the `model`'s own generation config, or `sampled`.

    Replies that are sampled are drawn at temperature 1 from all of the distribution, each by `seed` and its own prompt:
    the same seed gives a prompt the same reply in whatever batch it is.
    """

    generation: Manner = "greedy"
    seed: int = 0

    def config(self, model: PreTrainedModel, **fixed: Any) -> GenerationConfig:
        """Return a generation config that leaves nothing to the model's own besides what `generation` takes from it.

        `fixed` are lengths and special tokens. Raises InputError for a config of the model's that cannot be followed.
        """
        if self.generation != "model":  # what is sampled is drawn by `Draws`, after which one token is left to take
            return GenerationConfig(do_sample=False, num_beams=1, use_cache=True, **fixed)
        own = model.generation_config
        for name, usual in REFUSED.items():
            value = getattr(own, name, None)
            if value is not None and value is not False and value != usual:
                raise InputError(
                    f"--generation model: the model's generation config sets {name} to {value!r}, which is not taken token "
                    "by token; use --generation greedy"
                )
        taken = {name: value for name in TAKEN if (value := getattr(own, name, None)) is not None}
        return GenerationConfig(**{"do_sample": False, **taken, "num_beams": 1, "use_cache": True, **fixed})

    def key(self, model: PreTrainedModel) -> object:
        """Return what tells replies made this way from others of the same weights to the same prompts."""
        if self.generation == "model":
            return [self.seed, self.config(model).to_diff_dict()]
        return self.generation if self.generation == "greedy" else [self.generation, self.seed]

    def record(self, model: PreTrainedModel) -> dict[str, Any]:
        """Return what a record says of how replies were made: nothing of greedy ones, which say it by the command."""
        if self.generation == "greedy":
            return {}
        taken = self.config(model).to_diff_dict()
        settings = {name: taken[name] for name in TAKEN if name in taken} if self.generation == "model" else {}
        return {"generation": {"from": self.generation, "seed": self.seed, "settings": settings}}

    def chooser(
        self, model: PreTrainedModel, ids: Sequence[int], ends: Collection[int], limit: int
    ) -> Callable[[Float[Tensor, " vocab"]], int]:
        """Return what takes one token after another of the reply to `ids`, from the logits of each; draws are on the CPU.

        `ends` are the tokens that end it, `limit` how long it may become. Raises InputError as `config`.
        """
        special = {"eos_token_id": sorted(ends) or None, "pad_token_id": min(ends, default=0)}
        config = self.config(model, max_new_tokens=limit, max_length=len(ids) + limit, **special)
        model._prepare_special_tokens(config, device="cpu")
        settings = model._get_logits_processor(config, input_ids_seq_length=len(ids), device="cpu")
        settings.extend(self.processors([ids]))
        generator, sequence = torch.Generator().manual_seed(self.seed), [*ids]

        def choose(logits: Float[Tensor, " vocab"]) -> int:
            scores = settings(torch.tensor([sequence]), logits.float().cpu()[None])[0]
            drawn = (
                torch.multinomial(scores.softmax(-1), 1, generator=generator) if config.do_sample else scores.argmax()
            )
            sequence.append(int(drawn))
            return sequence[-1]

        return choose

    def processors(self, batch: Sequence[Sequence[int]]) -> list[LogitsProcessor]:
        """Return what looks at the logits of a batch besides the config: the draws, where replies are sampled."""
        return [Draws(self.seed, batch)] if self.generation == "sampled" else []

    @contextmanager
    def drawing(self, batch: Sequence[Sequence[int]], device: torch.device) -> Iterator[None]:
        """Inside the context draws depend on the seed and the batch alone, in whatever order and process batches come."""
        if self.generation != "model":
            yield
            return
        devices = [device] if device.type not in ("cpu", "mps") else []
        with torch.random.fork_rng(devices) if device.type != "mps" else nullcontext():
            whole = hashlib.sha256(repr((self.seed, [[*one] for one in batch])).encode()).digest()
            torch.manual_seed(int.from_bytes(whole[:7], "big"))
            yield


GREEDY = Decoding()


@contextmanager
def only(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Inside the context `config` is the model's own, so that nothing is filled in from another."""
    before = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = before


class Draws(LogitsProcessor):  # type: ignore[misc]
    """Draws the next token of each row at temperature 1, and leaves it alone possible.

    Each row has a generator of its own, by the seed and its prompt: a draw is where a uniform number falls in the sum of
    the probabilities, so that neither the other rows nor their order decide it.
    """

    def __init__(self, seed: int, batch: Sequence[Sequence[int]]) -> None:
        self.generators = [torch.Generator().manual_seed(seed_of(seed, prompt)) for prompt in batch]

    def __call__(
        self, input_ids: Int[Tensor, "batch length"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Return scores of which one in a row is finite: the drawn token's."""
        numbers = torch.cat([torch.rand(1, generator=generator) for generator in self.generators])
        sums = scores.float().softmax(-1).cumsum(-1)
        places = torch.searchsorted(sums, numbers.to(sums.device)[:, None] * sums[:, -1:], right=True)
        return torch.full_like(scores, -torch.inf).scatter(1, places.clamp(max=scores.shape[1] - 1), 0.0)


def seed_of(seed: int, prompt: Sequence[int]) -> int:
    """Return the seed of the draws for one prompt."""
    return int.from_bytes(hashlib.sha256(repr((seed, [*prompt])).encode()).digest()[:7], "big")


class NumbersOnly(LogitsProcessor):  # type: ignore[misc]
    """Notes of each row the first token of its reply whose logits are not finite, `NEVER` where all are.

    It changes nothing that is finite and asks the device for nothing: `first` is read at the end.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.first: Int[Tensor, " batch"] | None = None

    def __call__(
        self, input_ids: Int[Tensor, "batch length"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Look at the logits of the next token; those that are not finite become 0, so that drawing goes on to the end."""
        broken = ~torch.isfinite(
            scores.amax(-1)
        )  # the greatest is NaN where one is; -inf where all are, which one may be
        if self.first is None:
            self.first = torch.full((len(scores),), NEVER, device=scores.device)
        step = input_ids.shape[1] - self.start
        self.first = torch.where(broken & (self.first == NEVER), step, self.first)
        return scores.masked_fill(broken[:, None], 0.0)

    def broken(self, lengths: Sequence[int]) -> tuple[int, int] | None:
        """Return the first row with such logits before its reply ended, and at which token; `lengths` count the end."""
        for row, (first, length) in enumerate(
            zip([] if self.first is None else self.first.tolist(), lengths, strict=False)
        ):
            if NEVER < first < length:
                return row, first
        return None
