"""The losses of the search, without generation: how likely refusals are, and how far harmless replies move.

They are a table (`LOSSES`): what is minimised is the sum over the places where refusals part from answers and over the
original's replies, each side with the weight that a stage gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture
from abliterate.directions.scores import CERTAIN
from abliterate.models.batches import Batch, BatchSize, prepare_batches
from abliterate.models.forward import final_hidden, prefix_cache
from abliterate.models.gradient_memory import MemoryPlan, recomputed
from abliterate.models.head import HEAD_ROWS, Head, check_numbers, kl_divergence
from abliterate.search.examples import DivergencePoint, OriginalReply, Tokens
from abliterate.search.variables import Variables

States = Float[Tensor, "_ d_model"]

CHUNK = 8
"""Answers whose full distributions are in memory at once."""

MARGIN = 1.0
"""Nats of log-odds that a declining token shall be below even chances; what is further below is left in peace."""


@dataclass
class TokenCount:
    """Tokens that went forward (once each), and of those the ones that gradients went back through."""

    forward: int = 0
    backward: int = 0

    def add(self, batch: Batch, prefix: int, gradient: bool) -> None:
        """Count a batch and the prefix before it."""
        count = int(batch.lengths.sum()) + prefix
        self.forward += count
        self.backward += count * gradient


@dataclass(frozen=True)
class EditLosses:
    """The losses of one model under an edit, which is in place only while the edited model runs: a tied head is edited
    too, and must not be where the original's predictions are computed.

    `batch_size` is how many prompts run at once, with gradients or without; by default as many as the room allows.
    """

    model: PreTrainedModel
    architecture: Architecture
    head: Head
    memory: MemoryPlan
    token_count: TokenCount
    batch_size: BatchSize = "auto"

    def states(self, answers: Sequence[OriginalReply], edit: Variables | None = None) -> list[States]:
        """Return the final hidden states that predict each token of the replies, of the unedited model by default."""
        found: list[States] = [torch.empty(0)] * len(answers)
        sequences = [sequence(one) for one in answers]
        for batch, hidden in self._batches(sequences, longest(answers), edit, gradient=False):
            for place, row in enumerate(batch.rows):
                found[row] = replied(hidden[place], batch, place, answers[row]).clone()
        return found

    def divergences(
        self, answers: Sequence[OriginalReply], original: Sequence[States], edit: Variables
    ) -> Float[Tensor, "n 2"]:
        """Return the KL of each answer: of its first token, and the mean over its tokens."""
        edited, found = self.states(answers, edit), []
        for start in range(0, len(answers), CHUNK):
            part = slice(start, start + CHUNK)
            before = self.log_probs(original[part])
            with self.edited(edit):
                after = self.log_probs(edited[part])
            found += [reply_divergence(own, new).cpu() for own, new in zip(before, after, strict=True)]
        both = torch.stack(found)
        check_numbers(both, "harmless prompt {} of the search".format)
        return both

    def backward(
        self,
        places: Sequence[DivergencePoint],
        answers: Sequence[OriginalReply],
        original: Sequence[States],
        edit: Variables,
        weights: tuple[float, float],
    ) -> tuple[float, float]:
        """Add the gradients of `weights[0] * sum(at places) + weights[1] * sum(at replies)`; return both sums.

        Raises InputError, naming the prompt, where the logits are NaN or infinite.
        """
        sums = [0.0, 0.0]
        before = self.log_probs(original) if original else []
        sequences = [one.tokens for one in places] + [sequence(one) for one in answers]
        with recomputed(self.model, self.architecture, self.memory):
            for batch, hidden in self._batches(sequences, longest(answers), edit, gradient=True):
                looked = [
                    hidden[place, int(batch.lengths[place]) - 1][None]
                    if row < len(places)
                    else replied(hidden[place], batch, place, answers[row - len(places)])
                    for place, row in enumerate(batch.rows)
                ]
                total = hidden.new_zeros((), dtype=torch.float32)
                for row, rows in zip(batch.rows, self.log_probs(looked, gradient=True), strict=True):
                    side = int(row >= len(places))
                    value = (
                        summed_losses(AT_REPLIES, rows, before[row - len(places)])
                        if side
                        else summed_losses(AT_POINTS, rows, places[row])
                    )
                    number = row - len(places) if side else row
                    name = f"{'held reply' if side else 'harmful example'} {number + 1} of a step of the search"
                    check_numbers(value.detach()[None], name.format)
                    total = total + weights[side] * value
                    sums[side] += float(value.detach())
                torch.autograd.backward(total)
        return sums[0], sums[1]

    def edited(self, edit: Variables | None) -> AbstractContextManager[None]:
        """Return the context in which the model is edited."""
        return edit.applied(self.model, self.architecture) if edit else nullcontext()

    def log_probs(self, states: Sequence[States], gradient: bool = False) -> list[Float[Tensor, "_ vocab"]]:
        """Return log-probabilities for each row of each of `states`."""
        rows = torch.cat([*states])
        parts = [rows] if gradient else torch.split(rows, HEAD_ROWS)
        found = torch.cat([self.head.log_probs(part, gradient=gradient) for part in parts])
        return list(torch.split(found, [len(one) for one in states]))

    def _batches(
        self, sequences: Sequence[Tokens], reply: int, edit: Variables | None, gradient: bool
    ) -> Iterator[tuple[Batch, Float[Tensor, "batch length d_model"]]]:
        """Yield each batch with its final hidden states, the edit being in place meanwhile.

        A gradient goes back through one batch at a time: the edit and the part that all share are computed for each.
        """
        copies = self.memory.copies if gradient else 1
        share = not (gradient and self.memory.recompute)
        prompts = prepare_batches(self.model, sequences, self.batch_size, keep=1 + reply, copies=copies, share=share)
        shared = None
        for batch in prompts.batches:
            with self.edited(edit):
                if gradient or shared is None:
                    shared = prefix_cache(self.model, prompts.prefix, gradient=gradient)
                self.token_count.add(batch, len(prompts.prefix), gradient)
                yield batch, final_hidden(self.model, batch, shared, gradient=gradient)


def longest(answers: Sequence[OriginalReply]) -> int:
    """Return the length of the longest reply."""
    return max((len(one.reply) for one in answers), default=0)


def sequence(answer: OriginalReply) -> Tokens:
    """Return the tokens of prompt and reply."""
    return answer.prompt + answer.reply


def replied(
    hidden: Float[Tensor, "length d_model"], batch: Batch, place: int, answer: OriginalReply
) -> Float[Tensor, "tokens d_model"]:
    """Return the states of one row that predict the reply's tokens: from the prompt's last token on."""
    end = int(batch.lengths[place])
    return hidden[end - len(answer.reply) - 1 : max(end - 1, end - len(answer.reply))]


def refusal_loss(log_probs: Float[Tensor, " vocab"], place: DivergencePoint) -> Float[Tensor, ""]:
    """Return `softplus(log-odds + margin)` of the declining tokens."""
    probability = log_probs[list(place.declining)].exp().sum().clamp(CERTAIN, 1 - CERTAIN)
    return F.softplus((probability / (1 - probability)).log() + MARGIN)


def reply_divergence(
    original: Float[Tensor, "tokens vocab"], edited: Float[Tensor, "tokens vocab"]
) -> Float[Tensor, "2"]:
    """Return the KL of one answer in nats: at its first token, and the mean over its tokens."""
    values = kl_divergence(original.to(edited.device), edited)
    return torch.stack([values[0], values.mean()])


@dataclass(frozen=True)
class Loss:
    """A term of what the search minimises, for one example of its side.

    `of` is given the log-probabilities of the edited model, and what the example holds against them: at a place where
    refusals part from answers (`AT_POINTS`) the DivergencePoint, of whose next token the one row is; at a harmless reply
    (`AT_REPLIES`) the original's log-probabilities of its tokens. `weight` is beside the other losses of that side.
    """

    side: str
    of: Callable[[Tensor, Any], Tensor]
    weight: float = 1.0


AT_POINTS, AT_REPLIES = "points", "replies"

LOSSES: dict[str, Loss] = {
    "refusal": Loss(AT_POINTS, lambda log_probs, point: refusal_loss(log_probs[0], point)),
    # Half of the first token, half of all: an edit cannot hide behind the one that comparisons count.
    "divergence": Loss(AT_REPLIES, lambda log_probs, original: reply_divergence(original, log_probs).mean()),
}
"""The losses by name."""


def summed_losses(side: str, log_probs: Float[Tensor, "tokens vocab"], example: Any) -> Float[Tensor, ""]:
    """Return the sum of the losses of one side for an example, by their weights."""
    first, *others = (loss.weight * loss.of(log_probs, example) for loss in LOSSES.values() if loss.side == side)
    return sum(others, first)
