"""What is seen of one model on the report prompts: its replies, and its predictions along the original's replies.

The original is observed first. It leaves its head and its final hidden states behind, a few MB, so that the full
distributions of both models can be compared without both models in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.evaluation.statistics import Rate
from abliterate.models.batches import BatchSize, model_device, prepare_batches
from abliterate.models.decoding import GREEDY, Decoding
from abliterate.models.forward import final_hidden, prefix_cache
from abliterate.models.generation import REPLY_TOKENS, generate_all
from abliterate.models.head import Head
from abliterate.parallel.processes import Processes
from abliterate.progress import SILENT, Progress
from abliterate.prompts.splits import Report
from abliterate.replies.behaviours import BEHAVIOURS, REFUSAL, Scorer
from abliterate.storage.record_log import RecordLog

KINDS = ("harmful", "harmless", "look-alike", "kept")
"""What the prompts of a report are, for people."""


@dataclass(frozen=True)
class Reply:
    """One prompt and what the model said to it.

    Of a model behind a server (`served`) the token ids are not known, and their number only where it is told.
    """

    prompt: str
    tokens: tuple[int, ...]
    text: str
    served: bool = False
    served_tokens: int | None = None
    scorer: Scorer = BEHAVIOURS[REFUSAL]

    @property
    def refused(self) -> bool:
        """Whether the reply opens as a refusal; of another behaviour than refusal (`scorer`), whether it shows that."""
        return self.scorer.shows(self.text)

    @property
    def length(self) -> int | None:
        """Return the length in tokens; None where a server did not tell."""
        return self.served_tokens if self.served else len(self.tokens)


@dataclass(frozen=True)
class Observation:
    """Replies of one model, and its final hidden states along the original's replies to harmless prompts."""

    harmful: tuple[Reply, ...]
    harmless: tuple[Reply, ...]
    states: tuple[Float[Tensor, "_ d_model"], ...]
    head: Head
    look_alikes: tuple[Reply, ...] = ()
    kept: tuple[Reply, ...] = ()

    @property
    def harmful_refusals(self) -> Rate:
        """Return how many harmful prompts were refused."""
        return Rate(sum(reply.refused for reply in self.harmful), len(self.harmful))

    @property
    def harmless_refusals(self) -> Rate:
        """Return how many harmless prompts were refused."""
        return Rate(sum(reply.refused for reply in self.harmless), len(self.harmless))

    @property
    def other_refusals(self) -> dict[str, Rate]:
        """Return how many were refused of each other kind that was asked, by the names of the kinds."""
        others = {"look-alikes": self.look_alikes, "keep": self.kept}
        return {
            name: Rate(sum(reply.refused for reply in replies), len(replies))
            for name, replies in others.items()
            if replies
        }

    def to_json(self) -> dict[str, object]:
        """Return the refusal rates of both sides, and of what else was asked."""
        others = {name: rate.to_json() for name, rate in self.other_refusals.items()}
        return {
            "harmful_refusals": self.harmful_refusals.to_json(),
            "harmless_refusals": self.harmless_refusals.to_json(),
            **({"other_refusals": others} if others else {}),
        }


def observe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    report: Report,
    *,
    along: Sequence[Reply] | None = None,
    max_new_tokens: int = REPLY_TOKENS,
    batch_size: BatchSize = "auto",
    processes: Processes | None = None,
    kept: RecordLog | None = None,
    progress: Progress = SILENT,
    decoding: Decoding = GREEDY,
    scorer: Scorer = BEHAVIOURS[REFUSAL],
) -> Observation:
    """Let the model reply to the report prompts, and predict along the replies `along` (its own by default).

    `scorer` says which replies show the behaviour that is counted.

    `processes` share the work out, and each gets all of it; `kept` holds what an interrupted run has left. Raises
    InputError for logits that are NaN or infinite, naming the prompt.
    """
    sides = (report.harmful, report.harmless, report.look_alikes, report.kept)
    replies = generate_all(
        model,
        tokenizer,
        [side.tokens for side in sides],
        max_new_tokens,
        kinds=KINDS,
        decoding=decoding,
        batch_size=batch_size,
        processes=processes,
        kept=kept,
        progress=progress,
        title="replies to the report prompts",
    )
    harmful, harmless, look_alikes, stay = (
        tuple(
            Reply(prompt, tuple(ids), tokenizer.decode(ids), scorer=scorer)
            for prompt, ids in zip(side.prompts, given, strict=True)
        )
        for side, given in zip(sides, replies, strict=True)
    )
    states = states_along(model, report.harmless.tokens, along or harmless, batch_size, processes, progress)
    return Observation(harmful, harmless, states, Head(model), look_alikes, stay)


def states_along(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Reply],
    batch_size: BatchSize,
    processes: Processes | None,
    progress: Progress,
) -> tuple[Float[Tensor, "_ d_model"], ...]:
    """Return the final hidden states that predict each token of each reply; the first predicts the first token."""
    sequences = [[*prompt, *reply.tokens] for prompt, reply in zip(prompts, replies, strict=True)]
    longest = max(len(reply.tokens) for reply in replies)
    prepared = prepare_batches(model, sequences, batch_size, keep=longest + 1)
    shared = prefix_cache(model, prepared.prefix)
    group = processes or Processes()
    own: list[list[Tensor]] = []
    with progress.step("predictions along the replies", len(sequences), "prompts") as advance:
        for batch in group.own(prepared.batches):
            hidden = final_hidden(model, batch, shared)
            ends = batch.lengths.tolist()
            # An empty reply still has a first token that was predicted.
            spans = [
                slice(end - (said := len(replies[row].tokens)) - 1, end - min(1, said))
                for row, end in zip(batch.rows, ends, strict=True)
            ]
            device = "cpu" if group.count > 1 else hidden.device  # what goes to other processes leaves the accelerator
            own.append([hidden[place, span].to(device, copy=True) for place, span in enumerate(spans)])
            advance(len(batch.rows) * group.count)
    states: list[Tensor] = [torch.empty(0)] * len(sequences)
    for batch, found in zip(prepared.batches, group.gather(own), strict=True):
        for row, one in zip(batch.rows, found, strict=True):
            states[row] = one.to(model_device(model))
    return tuple(states)
