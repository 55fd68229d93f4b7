"""How far the edited model's predictions are from the original's, along the original's own replies to harmless prompts.

KL(original || edited), in nats, is published in three conventions, which are not the same number:

- last prompt token: what follows the whole prompt, template included (Arditi et al. 2024, arXiv 2406.11717, section 2.3).
- first reply token: what follows the tokens with which all replies of the original begin, such as a thought that the
  model always closes at once. Where the replies have no beginning in common it is the first number.
- over the replies: the mean over the tokens of the original's greedy reply, averaged over each reply first, so that
  long replies do not outvote short ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from abliterate.evaluation.observation import Observation
from abliterate.evaluation.statistics import Mean, mean_of
from abliterate.models.head import HEAD_ROWS, check_numbers, kl_divergence
from abliterate.progress import SILENT, Progress


@dataclass(frozen=True)
class Divergence:
    """The conventions that every run reports: all harmless prompts, and those that the original itself answers."""

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


@dataclass(frozen=True)
class Along:
    """Both models at each token of one reply of the original: the first entry is what the whole prompt is followed by.

    The losses are those of the reply's tokens, so that an empty reply has none.
    """

    kl: Float[Tensor, " predictions"]
    agree: Bool[Tensor, " predictions"]
    original_loss: Float[Tensor, " tokens"]
    edited_loss: Float[Tensor, " tokens"]


def along_replies(original: Observation, edited: Observation, progress: Progress = SILENT) -> list[Along]:
    """Compare the full distributions of two observations made along the same replies, reply by reply.

    Raises InputError, naming the prompt, where a distribution is not made of numbers or a divergence is infinite.
    """
    lengths = [len(states) for states in original.states]
    before, after = torch.cat(original.states), torch.cat(edited.states)
    said = torch.cat([torch.tensor([*reply.tokens] or [0]) for reply in original.harmless])
    columns: list[tuple[Tensor, ...]] = []
    with progress.step("KL divergence", len(before), "tokens") as advance:
        for start in range(0, len(before), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            own, other = original.head.log_probs(before[rows]), edited.head.log_probs(after[rows])
            tokens = said[rows].to(own.device)[:, None]
            columns.append(
                (
                    kl_divergence(own, other).cpu(),
                    (own.argmax(-1) == other.argmax(-1)).cpu(),
                    -own.gather(1, tokens)[:, 0].cpu(),
                    -other.gather(1, tokens.to(other.device))[:, 0].cpu(),
                )
            )
            advance(len(own))
    kl, agree, *losses = (torch.split(torch.cat(column), lengths) for column in zip(*columns, strict=True))
    check_numbers(
        torch.stack([torch.cat(own).sum() for own in zip(kl, *losses, strict=True)]), "harmless prompt {}".format
    )
    return [
        Along(one, same, *(loss[: len(reply.tokens)] for loss in pair))
        for one, same, reply, *pair in zip(kl, agree, original.harmless, *losses, strict=True)
    ]


def diverge(original: Observation, edited: Observation, progress: Progress = SILENT) -> Divergence:
    """Return the divergence of two observations made along the same replies."""
    along = along_replies(original, edited, progress)
    first = [float(one.kl[0]) for one in along]
    answered = [kl for kl, reply in zip(first, original.harmless, strict=True) if not reply.refused]
    return Divergence(mean_of(first), mean_of([float(one.kl.mean()) for one in along]), mean_of(answered))
