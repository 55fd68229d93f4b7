"""A safety vector by optimisation: the least change of the state at a place that makes a safe continuation likely.

`d* = argmax_d mean_i log P(Y_safe | x_i; h_i <- h_i + d) - k KL(harmless) - w |d|^2 / |h|^2`, `|d| <= c |h|`, by Adam: the
settings of MEMIT (Meng et al. 2023, arXiv 2210.07229) for GPT-J, with the step in the units of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
    single: Float[Tensor, "prompts d_model"] | None = None
    """A vector for each of some prompts, optimised for it alone."""

    @property
    def between(self) -> float | None:
        """Return the mean cosine of the vectors of two single prompts; None with fewer than two."""
        if self.single is None or len(self.single) < 2:
            return None
        unit = torch.nn.functional.normalize(self.single, dim=-1)
        count = len(unit)
        return float(((unit @ unit.T).sum() - count) / (count * (count - 1)))

    @property
    def with_common(self) -> float | None:
        """Return the mean cosine of the vector of a single prompt with that of all."""
        if self.single is None:
            return None
        return float(torch.nn.functional.cosine_similarity(self.single, self.vector[None], dim=-1).mean())

    def to_json(self) -> dict[str, float | int | None]:
        """Return the figures."""
        single = 0 if self.single is None else len(self.single)
        return {
            "log_p_before": self.before, "log_p_after": self.after, "kl_harmless": self.divergence,
            "single": single, "cosine_between_single": self.between, "cosine_single_with_common": self.with_common,
        }  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What is optimised: prompts with their safe continuations at a layer, and harmless prompts that shall stay.

    Raises InputError for lists that are empty or do not match, and as `Upper`.
    """

    live: LiveModel
    layer: int
    prompts: Sequence[Tokens]
    targets: Sequence[Tokens]
    harmless: Sequence[Tokens]

    def __post_init__(self) -> None:
        if not self.prompts or len(self.prompts) != len(self.targets) or not all(self.targets):
            raise InputError(
                f"{len(self.prompts)} prompts with {len(self.targets)} safe continuations; give one, of some tokens, for each"
            )

    @cached_property
    def upper(self) -> Upper:
        """Return the prompts, each with its safe continuation."""
        whole = [(*prompt, *target) for prompt, target in zip(self.prompts, self.targets, strict=True)]
        return Upper(self.live, self.layer, whole)

    @cached_property
    def calm(self) -> Upper | None:
        """Return the harmless prompts; None without any."""
        return Upper(self.live, self.layer, self.harmless) if self.harmless else None

    @cached_property
    def usual(self) -> Float[Tensor, "rows vocab"] | None:
        """Return what the model predicts behind the harmless prompts."""
        with torch.no_grad():
            return None if self.calm is None else self.calm.next_log_probs(self.calm.final)

    @cached_property
    def places(self) -> Tensor:
        """Return the last token of each prompt, where the vector is added."""
        return torch.tensor([len(prompt) - 1 for prompt in self.prompts], device=model_device(self.live.model))

    @cached_property
    def length(self) -> float:
        """Return the mean length of the state there."""
        return float(self.upper.states(self.places).float().norm(dim=-1).mean())

    def scored(self, shift: Float[Tensor, "*rows d_model"]) -> tuple[Tensor, Tensor]:
        """Return the log-probability of each safe continuation, and what the shift does to each harmless prompt (nats)."""
        likely = self.upper.log_likelihood(self.upper.hidden(shift, self.places), self.targets)
        if self.calm is None or self.usual is None:
            return likely, torch.zeros(1, device=likely.device)
        now = self.calm.next_log_probs(self.calm.hidden(shift, self.calm.batch.lengths - 1))
        return likely, kl_divergence(self.usual, now)

    def solved(self, shift: Tensor, chosen: Optimising, single: bool) -> Tensor:
        """Return the shift after all steps: one for all prompts by their mean, or where `single` one for each by itself.

        Raises InputError for gradients that are zero or NaN.
        """
        length, width = self.length, shift.shape[-1]
        optimiser = torch.optim.Adam([shift.requires_grad_()], lr=chosen.rate * length / width**0.5)
        whole = torch.Tensor.sum if single else torch.Tensor.mean
        with torch.enable_grad():
            for _ in range(chosen.steps):
                likely, moved = self.scored(shift)
                decay = chosen.decay * shift.square().sum() / length**2
                loss = -whole(likely) + chosen.divergence * whole(moved) + decay
                (shift.grad,) = torch.autograd.grad(loss, [shift])
                check_gradient(shift.grad, self.layer)
                optimiser.step()
                with torch.no_grad():
                    shift *= (chosen.clamp * length / shift.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
        return shift.detach()


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
    problem, chosen = Problem(live, layer, prompts, targets, harmless), settings or Optimising()
    start = torch.zeros(problem.upper.stream.shape[-1], device=model_device(live.model))
    with torch.no_grad():
        before = float(problem.scored(start)[0].mean())
    shift = problem.solved(start, chosen, single=False)
    with torch.no_grad():
        likely, moved = problem.scored(shift)
    return Optimised(shift.cpu().double(), before, float(likely.mean()), float(moved.mean()))


def optimised_each(
    live: LiveModel,
    layer: int,
    prompts: Sequence[Tokens],
    targets: Sequence[Tokens],
    harmless: Sequence[Tokens],
    settings: Optimising | None = None,
) -> Float[Tensor, "prompts d_model"]:
    """Return a vector for each prompt, optimised for it alone (one-shot; Dunefsky and Cohan 2025, arXiv 2502.18862).

    Each shall leave one of the harmless prompts as it is, in their order and from the first again where they are fewer.
    Rows of a batch are independent: all are found at once. Raises InputError as `optimised`.
    """
    beside = [harmless[place % len(harmless)] for place in range(len(prompts))] if harmless else []
    problem = Problem(live, layer, prompts, targets, beside)
    start = torch.zeros(len(prompts), problem.upper.stream.shape[-1], device=model_device(live.model))
    return problem.solved(start, settings or Optimising(), single=True).cpu().double()


def check_gradient(gradient: Tensor, layer: int) -> None:
    """Raise InputError for a gradient that is zero, NaN or infinite."""
    length = float(gradient.float().norm())
    if not 0 < length < float("inf"):
        raise InputError(
            f"layer {layer}: the gradient of the safe continuation is {length}; take another --layer, or --dtype float32"
        )
