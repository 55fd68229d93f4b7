"""Replies of a model, as token ids: sorted by length, in few batches; greedy, or drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import (
    Cache,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from abliterate.errors import InputError
from abliterate.models.batches import BatchSize, check_batch_size, common_prefix, model_device
from abliterate.models.decoding import GREEDY, Decoding, NumbersOnly, only
from abliterate.models.forward import prefix_cache, repeated_cache
from abliterate.models.head import NOT_NUMBERS
from abliterate.models.offload import rows_at_once
from abliterate.parallel.processes import Processes
from abliterate.progress import SILENT, Progress
from abliterate.storage.record_log import RecordLog, once

REPLY_TOKENS = 32
"""Tokens of the replies that are sorted into refusals and answers: a refusal shows in its first sentence."""

REPLY_ROWS = {"cpu": 64, "cuda": 256, "mps": 64}
"""Replies generated at once with automatic batches."""

CIRCLE = 64
"""Tokens that a reply must spend in a circle before it is ended..."""

CIRCLES = 4
"""...in which it must have gone round so many times..."""

CIRCLE_EVERY = 8
"""...looked for at every so many tokens."""


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    batch_size: BatchSize = "auto",
    processes: Processes | None = None,
    kept: RecordLog | None = None,
    progress: Progress = SILENT,
    title: str = "generating replies",
    decoding: Decoding = GREEDY,
    names: Sequence[str] = (),
    share: bool = True,
) -> list[list[int]]:
    """Return the reply to each prompt, without the token that ends it, at most `max_new_tokens` long.

    `processes` share the batches out, each getting all replies; they are the same as those of one. A row that goes
    round in circles ends early: nothing can come of it.

    `kept` holds batches that an interrupted run has left, and takes those that this one makes. It must belong to the
    weights as they are now, with every intervention on them.

    Of the model's generation config only the tokens that end a reply are taken, unless `decoding` says otherwise: the same
    weights give the same reply. `names` are those of the prompts, for people. `share` says whether what all prompts begin with
    is read once, in a pass of its own: not so under an intervention that acts from the last token of a prompt on. Raises InputError for a batch size below 1,
    and for logits that are NaN or infinite, naming the prompt.
    """
    check_batch_size(batch_size)
    device = model_device(model)
    rows = batch_size if batch_size != "auto" else REPLY_ROWS.get(device.type, REPLY_ROWS["cpu"])
    if batch_size == "auto":
        rows = rows_at_once(model, [*map(len, sequences)], rows, kept=max_new_tokens)
    order = sorted(range(len(sequences)), key=lambda place: (len(sequences[place]), place))
    ends = end_tokens(model, tokenizer)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    special = {"eos_token_id": sorted(ends) or None, "pad_token_id": padding}
    config = decoding.config(model, max_new_tokens=max_new_tokens, **special)
    prefix = common_prefix(model, sequences) if share else ()
    shared = prefix_cache(model, prefix)
    group = processes or Processes()
    batches = [order[start : start + rows] for start in range(0, len(order), rows)]
    own: list[list[list[int]]] = []
    with contiguous_head(model), progress.step(title, len(sequences), "replies") as advance:
        for places in group.own(batches):
            batch = [sequences[place] for place in places]
            # By batches, and with what they share: in another batch, or after another prefix, sums round otherwise.
            key = [decoding.key(model), max_new_tokens, sorted(ends), padding, len(prefix), batch]
            called = [names[place] if names else f"prompt {place + 1}" for place in places]
            with decoding.drawing(batch, device):
                own.append(
                    once(kept, key, partial(reply_to, model, batch, len(prefix), shared, config, called, decoding))
                )
            advance(len(batch) * group.count)
    replies: list[list[int]] = [[] for _ in sequences]
    for places, given in zip(batches, group.gather(own), strict=True):
        for place, one in zip(places, given, strict=True):
            replies[place] = until(one, ends, padding)
    return replies


def reply_to(
    model: PreTrainedModel,
    batch: Sequence[Sequence[int]],
    prefix: int,
    shared: Cache | None,
    config: GenerationConfig,
    names: Sequence[str],
    decoding: Decoding = GREEDY,
) -> list[list[int]]:
    """Return what the model says to a batch of prompts, whose first `prefix` tokens `shared` holds; padded at the end.

    Raises InputError for logits that are NaN or infinite, by the prompt's name.
    """
    tokens, mask = left_padded(batch, prefix, config.pad_token_id)
    device, watch = model_device(model), NumbersOnly(tokens.shape[1])
    with torch.inference_mode(), only(model, config):
        output = type(model).generate(  # the class's own: a model folder may have put another function on the model
            model,
            tokens.to(device),
            attention_mask=mask.to(device),
            past_key_values=repeated_cache(shared, len(batch)),
            generation_config=config,
            logits_processor=LogitsProcessorList([watch, *decoding.processors(batch)]),
            stopping_criteria=StoppingCriteriaList([Circling(tokens.shape[1])]),
        )
    replies: list[list[int]] = output[:, tokens.shape[1] :].tolist()
    ends = {*config.eos_token_id} if config.eos_token_id else set()
    found = watch.broken([1 + len(until(reply, ends, config.pad_token_id)) for reply in replies])
    if found is not None:
        row, token = found
        raise InputError(f"{names[row]}, token {token + 1} of the reply: {NOT_NUMBERS}")
    return replies


class Circling(StoppingCriteria):  # type: ignore[misc]
    """Ends the rows whose last tokens are the same few, again and again; the reply begins at token `start`."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, input_ids: Int[Tensor, "batch length"], scores: Any, **kwargs: Any) -> Bool[Tensor, " batch"]:
        """Return which rows are at an end."""
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        length = input_ids.shape[1] - self.start
        if length < CIRCLE or length % CIRCLE_EVERY:
            return done
        tail = input_ids[:, -CIRCLE:]
        for period in range(1, CIRCLE // CIRCLES + 1):
            done |= (tail[:, period:] == tail[:, :-period]).all(dim=1)
        return done


@contextmanager
def contiguous_head(model: PreTrainedModel) -> Iterator[None]:
    """Inside the context, the head is given its rows in one piece.

    transformers hands it the last position of each prompt as a slice, for which torch copies the whole head once a row:
    56 of 58 seconds for the first tokens of 64 replies by a model of 0.5B in bfloat16.
    """
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda module, args: (args[0].contiguous(), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


def generate_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[Sequence[Sequence[int]]],
    max_new_tokens: int,
    *,
    kinds: Sequence[str],
    decoding: Decoding = GREEDY,
    batch_size: BatchSize = "auto",
    processes: Processes | None = None,
    kept: RecordLog | None = None,
    progress: Progress = SILENT,
    title: str = "generating replies",
) -> list[list[list[int]]]:
    """Do `generate` for several lists of prompts as for one, in as few passes; return the replies list by list.

    `kinds` say for people what the prompts of each list are.
    """
    names = [
        f"{kind} prompt {place + 1}" for kind, group in zip(kinds, groups, strict=True) for place in range(len(group))
    ]
    replies = generate(
        model,
        tokenizer,
        [sequence for group in groups for sequence in group],
        max_new_tokens,
        names=names,
        decoding=decoding,
        batch_size=batch_size,
        processes=processes,
        kept=kept,
        progress=progress,
        title=title,
    )
    together = iter(replies)
    return [list(islice(together, len(group))) for group in groups]


def left_padded(
    sequences: Sequence[Sequence[int]], prefix: int, padding: int
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Return tokens and attention mask with the padding between the shared prefix and what is each prompt's own,
    so that all prompts end together and the prefix can come from a cache.
    """
    longest = max(map(len, sequences))
    tokens = torch.full((len(sequences), longest), padding)
    mask = torch.zeros_like(tokens)
    for place, sequence in enumerate(sequences):
        own = longest - len(sequence) + prefix
        tokens[place, :prefix] = torch.tensor(sequence[:prefix], dtype=torch.long)
        tokens[place, own:] = torch.tensor(sequence[prefix:])
        mask[place, :prefix] = 1
        mask[place, own:] = 1
    return tokens, mask


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the ids that end a reply: those of the model's generation config and of the tokenizer."""
    listed = model.generation_config.eos_token_id if model.generation_config is not None else None
    own = listed if isinstance(listed, list) else [listed]
    return {token for token in [*own, tokenizer.eos_token_id] if token is not None}


def until(reply: Sequence[int], ends: set[int], padding: int) -> list[int]:
    """Return the tokens before the first that ends the reply, and before the padding of a row that went in circles."""
    stop = next((place for place, token in enumerate(reply) if token in ends), len(reply))
    while stop and reply[stop - 1] == padding:
        stop -= 1
    return list(reply[:stop])
