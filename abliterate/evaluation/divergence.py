"""KL(original || edited) in nats on harmless prompts, in two conventions that are always named.

First reply token: at the last token of the prompt. Over the replies: at every token of the original's own greedy
reply, averaged over each reply's tokens first, so that long replies do not outvote short ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from abliterate.evaluation.observation import Observation
from abliterate.evaluation.statistics import Mean, mean_of
from abliterate.forward import HEAD_ROWS
from abliterate.progress import SILENT, Progress
from abliterate.scoring import kl_divergence


@dataclass(frozen=True)
class Divergence:
    """Both conventions, over all harmless prompts and over those that the original itself does not refuse."""

    first_token: Mean
    over_replies: Mean
    first_token_answered: Mean

    def to_json(self) -> dict[str, object]:
        """Return each convention with its interval."""
        return {
            "first_token": self.first_token.to_json(),
            "first_token_answered": self.first_token_answered.to_json(),
            "over_replies": self.over_replies.to_json(),
        }


def diverge(original: Observation, edited: Observation, progress: Progress = SILENT) -> Divergence:
    """Compare the full distributions of two observations made along the same replies."""
    lengths = [len(states) for states in original.states]
    before, after = torch.cat(original.states), torch.cat(edited.states)
    values = torch.empty(len(before))
    with progress.step("KL divergence", len(before), "tokens") as advance:
        for start in range(0, len(before), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            own = original.head.log_probs(before[rows])
            values[rows] = kl_divergence(own, edited.head.log_probs(after[rows])).cpu()
            advance(len(own))
    per_reply = torch.split(values, lengths)
    first = [float(reply[0]) for reply in per_reply]
    answered = [kl for kl, reply in zip(first, original.harmless, strict=True) if not reply.refused]
    return Divergence(mean_of(first), mean_of([float(reply.mean()) for reply in per_reply]), mean_of(answered))
