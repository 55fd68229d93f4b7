"""A safety vector by optimisation: the least change of the state at a place that makes a safe continuation likely.

`d* = argmax_d mean_i log P(Y_safe | x_i; h_i <- h_i + d) - k KL(harmless) - w |d|^2 / |h|^2`, `|d| <= c |h|`, by Adam: the
settings of MEMIT (Meng et al. 2023, arXiv 2210.07229) for GPT-J, with the step in the units of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import InputError
from abliterate.models.batches import model_device
from abliterate.models.head import kl_divergence
from abliterate.models.live_model import LiveModel
from abliterate.studies.replies import Tokens
from abliterate.studies.upper import Upper


@dataclass(frozen=True)
class Optimising:
    """Steps and weights of the optimisation; `rate`, `decay` and `clamp` are in the length of the state."""

    steps: int = 30
    rate: float = 0.05
    divergence: float = 0.0625
    decay: float = 0.5
    clamp: float = 0.75


@dataclass(frozen=True)
class Optimised:
    """The vector, and the mean log-probability of the safe continuation before and with it."""

    vector: Float[Tensor, " d_model"]
    before: float
    after: float
    divergence: float

    def to_json(self) -> dict[str, float]:
        """Return the figures."""
        return {"log_p_before": self.before, "log_p_after": self.after, "kl_harmless": self.divergence}


def optimised(
    live: LiveModel,
    layer: int,
    prompts: Sequence[Tokens],
    targets: Sequence[Tokens],
    harmless: Sequence[Tokens],
    settings: Optimising | None = None,
) -> Optimised:
    """Return one vector for all prompts, each with its safe continuation; it is added at the last token of each prompt.

    Raises InputError for lists that are empty or do not match, a streaming model, and gradients that are zero or NaN.
    """
    chosen = settings or Optimising()
    if not prompts or len(prompts) != len(targets) or not all(targets):
        raise InputError(
            f"{len(prompts)} prompts with {len(targets)} safe continuations; give one, of some tokens, for each"
        )
    device = model_device(live.model)
    upper = Upper(live, layer, [(*prompt, *target) for prompt, target in zip(prompts, targets, strict=True)])
    places = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    calm = Upper(live, layer, harmless) if harmless else None
    length = float(upper.states(places).float().norm(dim=-1).mean())
    shift = torch.zeros(upper.stream.shape[-1], device=device, requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=chosen.rate * length / upper.stream.shape[-1] ** 0.5)
    before = None
    with torch.no_grad():
        usual = None if calm is None else calm.next_log_probs(calm.final)
    with torch.enable_grad():
        for _ in range(chosen.steps):
            likely, moved = objective(upper, calm, usual, shift, places, targets)
            before = float(likely.detach()) if before is None else before
            loss = -likely + chosen.divergence * moved + chosen.decay * shift.square().sum() / length**2
            (shift.grad,) = torch.autograd.grad(loss, [shift])
            check_gradient(shift.grad, layer)
            optimiser.step()
            with torch.no_grad():
                shift *= min(1.0, chosen.clamp * length / max(float(shift.norm()), 1e-12))
        with torch.no_grad():
            likely, moved = objective(upper, calm, usual, shift, places, targets)
    assert before is not None
    return Optimised(shift.detach().cpu().double(), before, float(likely), float(moved))


def objective(
    upper: Upper,
    calm: Upper | None,
    usual: Float[Tensor, "rows vocab"] | None,
    shift: Float[Tensor, " d_model"],
    places: Tensor,
    targets: Sequence[Tokens],
) -> tuple[Tensor, Tensor]:
    """Return the mean log-probability of the safe continuations, and what the shift does to harmless prompts (nats)."""
    likely = upper.log_likelihood(upper.hidden(shift, places), targets).mean()
    if calm is None or usual is None:
        return likely, torch.zeros(())
    now = calm.next_log_probs(calm.hidden(shift, calm.batch.lengths - 1))
    return likely, kl_divergence(usual, now).mean()


def check_gradient(gradient: Tensor, layer: int) -> None:
    """Raise InputError for a gradient that is zero, NaN or infinite."""
    length = float(gradient.float().norm())
    if not 0 < length < float("inf"):
        raise InputError(
            f"layer {layer}: the gradient of the safe continuation is {length}; take another --layer, or --dtype float32"
        )
