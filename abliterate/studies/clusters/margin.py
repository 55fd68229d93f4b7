"""`f(Y)` of one prompt as a function of its state at one layer and its last token.

    f = mean over Y in R of log P(Y) / |Y|  -  mean over Y in A of log P(Y) / |Y|

R are the model's own refusal openings, A those of its own answers. Only the state at that token is replaced: what stands before
it is read once, and the layers below run once, without gradients. All openings are scored in one pass, each context once.
"""

from __future__ import annotations

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


def check_exact(live: LiveModel) -> None:
    """Raise InputError for a model through which no gradient can be trusted: layers on the disk, or fewer digits than float32."""
    check_gradients(live, "a direction by gradient", WAY_OUT)
    dtype = live.model.dtype
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
    """`f(Y)` of one prompt. Raises InputError as `check_exact`."""

    def __init__(self, live: LiveModel, layer: int, prompt: Tokens, targets: Targets) -> None:
        check_exact(live)
        self.targets, self.scored = targets, Scored.of(targets)
        prefix = prompt[:-1] if can_share_prefix(live.model) else ()
        own = prompt[len(prefix) :]
        self.upper = Upper(live, layer, [(*own, *context) for context in self.scored.contexts], prefix)
        device = self.upper.stream.device
        self.last = len(own) - 1
        self._places = torch.full((len(self.scored.contexts),), self.last, device=device)

    @property
    def state(self) -> Float[Tensor, " d_model"]:
        """Return the state as the model makes it."""
        return self.upper.stream[0, self.last].detach()

    def value(self, state: Float[Tensor, " d_model"]) -> float:
        """Return f where the state is replaced."""
        with torch.no_grad():
            return float(self._value(state - self.state))

    def gradient(self, state: Float[Tensor, " d_model"]) -> tuple[float, Float[Tensor, " d_model"]]:
        """Return f where the state is replaced, and its gradient with respect to that state."""
        shift = (state - self.state).requires_grad_()
        with torch.enable_grad():
            found = self._value(shift)
            (gradient,) = torch.autograd.grad(found, [shift])
        return float(found.detach()), gradient.float()

    def _value(self, shift: Tensor) -> Tensor:
        hidden = self.upper.hidden(shift, self._places)
        nodes = hidden[list(self.scored.rows), [self.last + place for place in self.scored.places]]
        log_probs = self.upper.head.log_probs(nodes, gradient=True)
        own = log_probs[list(self.scored.nodes), list(self.scored.tokens)]
        owners = torch.tensor(self.scored.openings, device=own.device)
        every = (*self.targets.refusal, *self.targets.answer)
        sums = torch.zeros(len(every), device=own.device, dtype=own.dtype).index_add(0, owners, own)
        refusals = len(self.targets.refusal)
        if self.targets.scored == "opening":
            probability = sums.exp().sum().clamp(CERTAIN, 1 - CERTAIN)
            return (probability / (1 - probability)).log()
        each = sums / torch.tensor([len(one) for one in every], device=own.device)
        return each[:refusals].mean() - each[refusals:].mean()
