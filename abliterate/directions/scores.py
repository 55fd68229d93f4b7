"""Scores at the first reply token, without any generation: the refusal score and the divergence.

The refusal score is the log-odds that the reply opens as a refusal. Openings are token prefixes of the model's
own refusals, so that no family of models needs a table of token ids, and a prefix of several tokens is scored
by teacher forcing. With openings of one token it is the score of Arditi et al. 2024, arXiv 2406.11717, section 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.models.batches import BatchSize, PreparedPrompts, prepare_batches
from abliterate.models.forward import at_positions, final_hidden, prefix_cache
from abliterate.models.head import HEAD_ROWS, Head, check_numbers, kl_divergence
from abliterate.replies.openings import Opening

CERTAIN = 1e-6
"""Probabilities are kept this far from 0 and 1: bfloat16 logits do not resolve finer odds."""


@dataclass(frozen=True)
class OpeningBatch:
    """Prompts with the openings that are asked about, ready to run: one row per prompt and context.

    A context is what comes before an opening's last token; openings along one path share the longest.
    """

    prompts: PreparedPrompts
    count: int
    contexts: tuple[Opening, ...]
    openings: tuple[Opening, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        """Return the positions whose next token matters, from the end of the longest context."""
        return tuple(range(-1 - max(map(len, self.contexts)), 0))


def prepare_openings(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    openings: Sequence[Opening] = (),
    batch_size: BatchSize = "auto",
    copies: int = 1,
    share: bool = True,
) -> OpeningBatch:
    """Return the question ready to run; without openings only the first reply token is asked for.

    `copies` and `share` as in `prepare_batches`.
    """
    contexts = contexts_of(openings)
    rows = [[*sequence, *context] for context in contexts for sequence in sequences]
    keep = 1 + max(map(len, contexts))
    prompts = prepare_batches(model, rows, batch_size, keep=keep, copies=copies, share=share)
    return OpeningBatch(prompts, len(sequences), contexts, tuple(openings))


def final_states(
    model: PreTrainedModel, opening_batch: OpeningBatch, candidates: int = 1
) -> Float[Tensor, "candidates rows positions d_model"]:
    """Return the final hidden states at the question's positions, once per candidate.

    With several candidates, the caller's intervention gives each copy of a batch its own direction:
    batch rows are candidate after candidate.
    """
    positions = opening_batch.positions
    states: Tensor | None = None
    shared = prefix_cache(model, opening_batch.prompts.prefix, candidates)
    for batch in opening_batch.prompts.batches:
        size = len(batch.rows)
        rows = [candidate for candidate in range(candidates) for _ in range(size)]
        repeated = batch.repeat(candidates)
        hidden = at_positions(final_hidden(model, repeated, shared, rows), repeated, positions)
        if states is None:
            states = hidden.new_empty(candidates, opening_batch.prompts.count, *hidden.shape[1:])
        states[:, list(batch.rows)] = hidden.view(candidates, size, *hidden.shape[1:])
    assert states is not None
    return states


def refusal_score(
    head: Head,
    opening_batch: OpeningBatch,
    states: Float[Tensor, "candidates rows positions d_model"],
    *,
    gradient: bool = False,
) -> Float[Tensor, "candidates prompts"]:
    """Return the log-odds of a refusal opening for each candidate and prompt; `gradient` says whether autograd shall follow.

    Raises InputError, naming the prompt of the question, where the logits are NaN or infinite.
    """
    candidates = len(states)
    total = torch.zeros(candidates, opening_batch.count, dtype=torch.float64)
    for place, context in enumerate(opening_batch.contexts):
        own = states[:, place * opening_batch.count : (place + 1) * opening_batch.count]
        openings = [
            opening for opening in opening_batch.openings if context_of(opening, opening_batch.contexts) == place
        ]
        scores = [torch.zeros_like(total) for _ in openings]
        for step in range(1 + len(context)):
            # Candidate after candidate, so that an intervention at the head finds its rows.
            rows = own[:, :, step - 1 - len(context)].flatten(0, 1)
            log_probs = head.log_probs(rows, gradient=gradient).view(candidates, opening_batch.count, -1)
            for score, opening in zip(scores, openings, strict=True):
                if step < len(opening):
                    score += log_probs[:, :, opening[step]].cpu().double()
        total += sum(score.exp() for score in scores)
    check_numbers(total.detach().T, "prompt {} of those that are scored".format)
    probability = total.clamp(CERTAIN, 1 - CERTAIN)
    return (probability / (1 - probability)).log().float()


def contexts_of(openings: Sequence[Opening]) -> tuple[Opening, ...]:
    """Return what comes before the last tokens of openings, the longest of each path; the empty one for no openings."""
    before = {opening[:-1] for opening in openings} or {()}
    return tuple(
        sorted(one for one in before if not any(one != other and other[: len(one)] == one for other in before))
    )


def context_of(opening: Opening, contexts: Sequence[Opening]) -> int:
    """Return the place of the first context that begins with all of `opening` but its last token."""
    before = opening[:-1]
    return next(place for place, context in enumerate(contexts) if context[: len(before)] == before)


def first_token_log_probs(
    model: PreTrainedModel, head: Head, sequences: Sequence[Sequence[int]], batch_size: BatchSize = "auto"
) -> Float[Tensor, "prompts vocab"]:
    """Return the log-probabilities of the first reply token, float32 on the CPU.

    Raises InputError, naming the prompt, where the logits are NaN or infinite.
    """
    opening_batch = prepare_openings(model, sequences, batch_size=batch_size)
    states = final_states(model, opening_batch)[0, :, -1]
    found = torch.cat([head.log_probs(rows).cpu() for rows in torch.split(states, HEAD_ROWS)])
    check_numbers(found.logsumexp(-1), "harmless prompt {} of the choice".format)  # one token alone may be impossible
    return found


def first_token_divergences(
    model: PreTrainedModel,
    head: Head,
    opening_batch: OpeningBatch,
    original: Float[Tensor, "_ vocab"],
    candidates: int = 1,
) -> Float[Tensor, "candidates prompts"]:
    """Return `KL(original || model as it now is)` of the first reply token, in nats, once per candidate: see `final_states`.

    `original` are the log-probabilities of the prompts, in their order, of at least as many as the question has. Raises
    InputError, naming the prompt, where the logits are NaN or infinite.
    """
    found: list[Tensor] = []
    step = max(1, HEAD_ROWS // candidates)
    states = final_states(model, opening_batch, candidates)[:, :, -1]
    for start in range(0, opening_batch.count, step):
        # Candidate after candidate, so that an intervention at the head finds its rows.
        rows = states[:, start : start + step]
        own = original[start : start + rows.shape[1]].repeat(candidates, 1)
        kl = kl_divergence(own, head.log_probs(rows.flatten(0, 1)).cpu())
        found.append(kl.view(candidates, -1).double())
    each = torch.cat(found, dim=1)
    check_numbers(each.T, "harmless prompt {} of the choice".format)
    return each
