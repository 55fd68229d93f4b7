"""What directions do to a live model: refusal log-odds, divergence and replies, with each ablated or added."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.directions.scores import final_states, first_token_log_probs, prepare_openings
from abliterate.interventions import ablated, ablated_rows, added_rows
from abliterate.models.decoding import Decoding
from abliterate.models.head import HEAD_ROWS, Head, kl_divergence
from abliterate.models.live_model import LiveModel
from abliterate.replies.openings import Opening
from abliterate.replies.refusals import is_refusal
from abliterate.storage.record_log import RecordLog, digest, once
from abliterate.studies.replies import Tokens, Unit, said
from abliterate.studies.scores import scores_under

REPLY_TOKENS = 32


@dataclass(frozen=True)
class Acting:
    """A live model, the openings whose log-odds are scored, and what an interrupted study has left."""

    live: LiveModel
    layer: int
    openings: tuple[Opening, ...]
    kept: RecordLog | None = None

    def plain(self, prompts: Sequence[Tokens]) -> Float[Tensor, " prompts"]:
        """Return the refusal log-odds of the model as it is."""
        nothing = torch.zeros(1, self.live.architecture.d_model)
        return self.added(nothing, prompts)[0]

    def ablated(
        self,
        bases: Float[Tensor, "bases k d_model"],
        prompts: Sequence[Tokens],
        strengths: Float[Tensor, " bases"] | None = None,
    ) -> Float[Tensor, "bases prompts"]:
        """Return the refusal log-odds with each basis ablated, each at its strength."""
        given = None if strengths is None else [float(one) for one in strengths]

        def under(rows: Tensor, start: int) -> AbstractContextManager[Any]:
            own = None if strengths is None else strengths[start : start + len(rows)]
            return ablated_rows(self.live.model, rows, architecture=self.live.architecture, strengths=own)

        return scores_under(self.live, self.openings, bases.float(), prompts, under, ["ablated", given], self.kept)

    def added(
        self, vectors: Float[Tensor, "vectors d_model"], prompts: Sequence[Tokens]
    ) -> Float[Tensor, "vectors prompts"]:
        """Return the refusal log-odds with each vector added at the layer, at every token."""

        def under(rows: Tensor, start: int) -> AbstractContextManager[Any]:
            return added_rows(self.live.model, rows, [self.layer] * len(rows), self.live.architecture)

        return scores_under(self.live, self.openings, vectors.float(), prompts, under, ["added", self.layer], self.kept)

    def divergences(
        self, basis: Float[Tensor, "k d_model"], prompts: Sequence[Tokens], strength: float = 1.0
    ) -> Float[Tensor, " prompts"]:
        """Return each prompt's KL(original || ablated) at the first reply token, in nats; rounding may leave it below 0."""

        def make() -> list[float]:
            model, head = self.live.model, Head(self.live.model)
            usual = first_token_log_probs(model, head, prompts, self.live.batch_size)
            batch = prepare_openings(model, prompts, batch_size=self.live.batch_size)
            strengths = torch.tensor([strength])
            with ablated_rows(model, basis[None].float(), architecture=self.live.architecture, strengths=strengths):
                states = final_states(model, batch)[0, :, -1]
                edited = torch.cat([head.log_probs(rows).cpu() for rows in torch.split(states, HEAD_ROWS)])
            found: list[float] = kl_divergence(usual, edited).double().tolist()
            return found

        key = ["divergences", digest(basis.tolist()), strength, [*map(list, prompts)]]
        return torch.tensor(once(self.kept, key, make), dtype=torch.float64)

    def divergence(self, basis: Float[Tensor, "k d_model"], prompts: Sequence[Tokens], strength: float = 1.0) -> float:
        """Return the mean KL(original || ablated) at the first reply token, in nats."""
        return max(0.0, float(self.divergences(basis, prompts, strength).mean()))

    def refusals(
        self, unit: Unit, basis: Float[Tensor, "k d_model"] | None, tokens: int = REPLY_TOKENS
    ) -> tuple[bool, ...]:
        """Return which greedy replies refuse, with a basis ablated, or without for None."""
        if basis is None:
            replies = said(self.live, unit, Decoding(), tokens=tokens, kept=self.kept)
        else:
            scope = self.kept.under("ablated", digest(basis.tolist())) if self.kept else None
            with ablated(self.live.model, basis.float(), architecture=self.live.architecture):
                replies = said(self.live, unit, Decoding(), tokens=tokens, kept=scope)
        texts = [str(self.live.tokenizer.decode(list(one), skip_special_tokens=True)) for one in replies]
        return tuple(map(is_refusal, texts))
