"""`f(Y)` of prompts as a function of their states at one layer and their last token.

    f = mean over Y in R of log P(Y) / |Y|  -  mean over Y in A of log P(Y) / |Y|

R are the model's own refusal openings, A those of its own answers. Only the state at that token is replaced: what stands before
it is read once, and the layers below run once, without gradients. All openings are scored in one pass, each context once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.directions.scores import CERTAIN, context_of, contexts_of
from abliterate.errors import InputError
from abliterate.models.batches import can_share_prefix
from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.openings import Targets
from abliterate.studies.replies import Tokens
from abliterate.studies.upper import Upper, check_gradients

WAY_OUT = "give more memory"

NODES = 192
"""Places at once whose predictions are looked at: each holds the whole vocabulary, and the weights are read once for all of them."""


def check_exact(live: LiveModel) -> None:
    """Raise InputError for a model through which no gradient can be trusted: layers on the disk, or fewer digits than float32."""
    check_gradients(live, "a direction by gradient", WAY_OUT)
    check_digits(live.model.dtype)


def check_digits(dtype: torch.dtype) -> None:
    """Raise InputError for a dtype of fewer digits than float32."""
    if dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"gradients in {str(dtype).removeprefix('torch.')} are noise; load the model in float32 (--dtype float32)"
        )


@dataclass(frozen=True)
class Scored:
    """Where the tokens of all openings are predicted: which row and place of the contexts says which token of which opening."""

    rows: tuple[int, ...]
    places: tuple[int, ...]
    nodes: tuple[int, ...]
    tokens: tuple[int, ...]
    openings: tuple[int, ...]
    contexts: tuple[Tokens, ...]

    @classmethod
    def of(cls, targets: Targets) -> Scored:
        """Return where: each distinct beginning of an opening is predicted from once."""
        every = (*targets.refusal, *targets.answer)
        contexts = contexts_of(every)
        seen: dict[Tokens, int] = {}
        nodes, tokens, owners = [], [], []
        for number, opening in enumerate(every):
            for length, token in enumerate(opening):
                nodes.append(seen.setdefault(opening[:length], len(seen)))
                tokens.append(token)
                owners.append(number)
        rows = tuple(context_of((*before, 0), contexts) for before in seen)
        return cls(rows, tuple(map(len, seen)), tuple(nodes), tuple(tokens), tuple(owners), contexts)


class Margin:
    """`f(Y)` of some prompts, which do not touch each other: one backward pass of the sum gives the gradient of each.

    Prompts must be of one length (`alike`). Raises InputError as `check_exact`.
    """

    def __init__(self, live: LiveModel, layer: int, prompts: Sequence[Tokens], targets: Targets) -> None:
        check_exact(live)
        self.targets, self.scored = targets, Scored.of(targets)
        length = len(prompts[0]) - 1 if can_share_prefix(live.model) else 0
        contexts, self.count = self.scored.contexts, len(prompts)
        sequences = [(*prompt[length:], *context) for prompt in prompts for context in contexts]
        begins = [place for place in range(self.count) for _ in contexts]
        self.upper = Upper(live, layer, sequences, [prompt[:length] for prompt in prompts], begins)
        self.last = len(prompts[0]) - 1 - length

    def part(self, prompts: Sequence[int]) -> Margin:
        """Return some of the prompts by themselves, as places among these."""
        own, contexts = copy.copy(self), len(self.scored.contexts)
        own.upper = self.upper.part([place * contexts + row for place in prompts for row in range(contexts)])
        own.count = len(prompts)
        return own

    @property
    def states(self) -> Float[Tensor, "prompts d_model"]:
        """Return the states as the model makes them."""
        return self.upper.stream[:: len(self.scored.contexts), self.last].detach()

    def values(self, states: Float[Tensor, "prompts d_model"]) -> Float[Tensor, " prompts"]:
        """Return f where each prompt's state is replaced."""
        with torch.no_grad():
            return self._values(states - self.states)

    def gradients(
        self, states: Float[Tensor, "prompts d_model"]
    ) -> tuple[Float[Tensor, " prompts"], Float[Tensor, "prompts d_model"]]:
        """Return f where each prompt's state is replaced, and its gradient with respect to that state."""
        shift = (states - self.states).requires_grad_()
        with torch.enable_grad():
            found = self._values(shift)
            (gradient,) = torch.autograd.grad(found.sum(), [shift])
        return found.detach(), gradient.float()

    def _values(self, shift: Tensor) -> Tensor:
        contexts, device = len(self.scored.contexts), shift.device
        places = torch.full((self.count * contexts,), self.last, device=device)
        hidden = self.upper.hidden(shift.repeat_interleave(contexts, dim=0), places)
        rows = torch.arange(self.count, device=device)[:, None] * contexts + torch.tensor(
            self.scored.rows, device=device
        )
        at = self.last + torch.tensor(self.scored.places, device=device)
        log_probs = self.upper.head.log_probs(hidden[rows, at].flatten(0, 1), gradient=True)
        apart = log_probs.view(self.count, len(self.scored.places), -1)
        own = apart[:, list(self.scored.nodes), list(self.scored.tokens)]
        owners = torch.tensor(self.scored.openings, device=own.device)
        every = (*self.targets.refusal, *self.targets.answer)
        sums = torch.zeros(self.count, len(every), device=own.device, dtype=own.dtype).index_add(1, owners, own)
        refusals = len(self.targets.refusal)
        if self.targets.scored == "opening":
            probability = sums.exp().sum(1).clamp(CERTAIN, 1 - CERTAIN)
            return (probability / (1 - probability)).log()
        each = sums / torch.tensor([len(one) for one in every], device=own.device)
        return each[:, :refusals].mean(1) - each[:, refusals:].mean(1)


def alike(prompts: Sequence[Tokens], targets: Targets) -> list[list[int]]:
    """Return the places of prompts in groups of one length, few enough that what is predicted of a group fits in memory."""
    most = max(1, NODES // max(1, len(Scored.of(targets).places)))
    by_length: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(place)
    return [own[start : start + most] for own in by_length.values() for start in range(0, len(own), most)]
