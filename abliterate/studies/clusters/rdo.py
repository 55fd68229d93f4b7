"""Refusal direction optimisation: one direction, or a cone of several, by gradient. Wollschläger et al. 2025, arXiv 2502.17420.

    1 CE(own ablated reply | r ablated) + .2 CE(refusal | |dim| r added at the layer) + 1 KL(harmless reply | r ablated)

AdamW at 1e-2, betas (.9, .98), amsgrad, no weight decay, batches of 16, one epoch, patience of 5 steps, two cuts of the rate. What
is to be said under ablation is what the model itself says with the difference in means ablated: kept in memory, never written.

A cone is all `|w| R` of an orthonormal basis `R` (section 5 and code): each step tries the basis itself and 8 directions drawn in the
cone, `w` from N(0, I), and Gram-Schmidt follows. The authors try each of them on every prompt of a batch; here each prompt is tried
with one of the basis and with one of those drawn, in turn: the same on average, at the cost of two single directions for any k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.errors import InputError
from abliterate.interventions import ablated, added_rows
from abliterate.interventions.ablation import projected
from abliterate.models.forward import final_hidden
from abliterate.models.generation import generate
from abliterate.models.head import Head, kl_divergence
from abliterate.models.live_model import LiveModel
from abliterate.studies.replies import Tokens
from abliterate.studies.upper import check_gradients, padded

TOKENS = 30
"""Of replies, harmless and ablated ones."""

BATCH, PART = 16, 4
"""Prompts of one step, and of one pass: their gradients add."""

RATE, BETAS = 1e-2, (0.9, 0.98)
PATIENCE, CUTS = 5, 2
ADDED = 0.2

DRAWN = 8
"""Directions drawn in a cone of several, each step."""


@dataclass(frozen=True)
class Trained:
    """The orthonormal basis of the cone (one unit direction is a cone of one), and the loss of every step."""

    basis: Float[Tensor, "k d_model"]
    losses: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the losses and their number."""
        return {"k": len(self.basis), "steps": len(self.losses), "losses": list(self.losses)}


@dataclass(frozen=True)
class Lessons:
    """What the direction is trained on: prompts of both sides, how the model refuses, and how long what is added is."""

    harmful: Sequence[Tokens]
    harmless: Sequence[Tokens]
    refusal: Tokens
    start: Float[Tensor, " d_model"]
    length: float
    layer: int


def rdo(
    live: LiveModel,
    lessons: Lessons,
    k: int = 1,
    *,
    steps: int | None = None,
    tokens: int = TOKENS,
    seed: int = 0,
) -> Trained:
    """Return the trained direction, begun at the difference in means, or a cone of `k`, whose other directions begin at random.

    `steps` ends it before its epoch does. Raises InputError for a streaming model, for prompts that are missing on a side, for
    a `k` below 1, and for a loss that is no number.
    """
    if k < 1:
        raise InputError(f"a cone of {k} directions: give a number from 1 up")
    check_gradients(live, "a trained direction", "give more memory, or --compare without rdo")
    if not lessons.harmful or not lessons.harmless:
        raise InputError("a trained direction needs prompts of both sides; give more phrases")
    unit = torch.nn.functional.normalize(lessons.start.float(), dim=0)
    with ablated(live.model, unit, architecture=live.architecture):
        wanted = replies(live, lessons.harmful, tokens)
    usual = replies(live, lessons.harmless, tokens)
    raw = begun(unit, k, seed).requires_grad_()
    optimiser = torch.optim.AdamW([raw], lr=RATE, betas=BETAS, weight_decay=0.0, amsgrad=True)
    order = torch.randperm(len(lessons.harmful), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)][:steps]
    losses: list[float] = []
    best, basis, waited, cuts = float("inf"), unit[None], 0, 0
    drawing = torch.Generator().manual_seed(seed)
    what = "training a direction" if k == 1 else f"training a cone of {k}"
    with live.progress.step(what, len(batches), "steps") as advance:
        for batch in batches:
            before = torch.nn.functional.normalize(raw.detach(), dim=-1)
            losses.append(stepped(live, lessons, raw, drawn_weights(k, drawing), batch, wanted, usual))
            best, basis, waited = (losses[-1], before, 0) if losses[-1] < best else (best, basis, waited + 1)
            optimiser.step()
            optimiser.zero_grad()
            with torch.no_grad():
                raw.copy_(orthogonal(raw))
            advance(1)
            if waited >= PATIENCE:
                waited, cuts = 0, cuts + 1
                if cuts > CUTS:
                    break
                optimiser.param_groups[0]["lr"] /= 10
    if losses[-1] <= best:  # the last step was not tried again: it counts where it was still falling
        basis = torch.nn.functional.normalize(raw.detach(), dim=-1)
    return Trained(basis, tuple(losses))


def begun(unit: Float[Tensor, " d_model"], k: int, seed: int) -> Float[Tensor, "k d_model"]:
    """Return where a cone begins: at a unit direction, and at random ones orthogonal to it and to each other."""
    more = torch.randn(k - 1, len(unit), generator=torch.Generator().manual_seed(seed)).to(unit)
    return orthogonal(torch.cat([unit[None], torch.nn.functional.normalize(more, dim=-1)]))


def orthogonal(rows: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """Return rows each without what it has of those before (Gram-Schmidt); lengths are left, since losses take each at length 1."""
    found = rows[:1]
    for row in rows[1:]:
        axes = torch.nn.functional.normalize(found, dim=-1)
        for _ in range(2):  # once more, for what rounding leaves
            row = row - (row @ axes.T) @ axes
        found = torch.cat([found, row[None]])
    return found.clone()


def drawn_weights(k: int, generator: torch.Generator) -> Float[Tensor, "drawn k"]:
    """Return the weights of directions drawn in a cone, at length 1; none where the cone is one direction."""
    weights = torch.randn(DRAWN if k > 1 else 0, k, generator=generator).abs()
    return torch.nn.functional.normalize(weights, dim=-1)


def shares(weights: Float[Tensor, "drawn k"], batch: Sequence[int]) -> list[tuple[Float[Tensor, " k"], Sequence[int]]]:
    """Return which prompts of a batch are tried with which direction, as its weights: with the basis in turn, and with those drawn in turn."""
    basis = torch.eye(weights.shape[1])
    found = [(row, batch[place :: len(some)]) for some in (basis, weights) for place, row in enumerate(some)]
    return [(row, own) for row, own in found if own]


def replies(live: LiveModel, prompts: Sequence[Tokens], tokens: int) -> list[Tokens]:
    """Return greedy replies."""
    return [tuple(one) for one in generate(live.model, live.tokenizer, prompts, tokens, batch_size=live.batch_size)]


def stepped(
    live: LiveModel,
    lessons: Lessons,
    raw: Float[Tensor, "k d_model"],
    weights: Float[Tensor, "drawn k"],
    batch: Sequence[int],
    wanted: Sequence[Tokens],
    usual: Sequence[Tokens],
) -> float:
    """Add the gradient of one batch to `raw`, and return its loss. Raises InputError for a loss that is no number."""
    total = 0.0
    parts = [
        (row, own[start : start + PART]) for row, own in shares(weights, batch) for start in range(0, len(own), PART)
    ]
    for row, part in parts:
        calm = [place % len(lessons.harmless) for place in part]
        harmful = [lessons.harmful[place] for place in part]
        harmless = [lessons.harmless[place] for place in calm]
        with torch.enable_grad():
            direction = row.to(raw) @ torch.nn.functional.normalize(raw, dim=-1)
            losses = losses_of(
                live, lessons, direction, harmful, harmless, [wanted[p] for p in part], [usual[p] for p in calm]
            )
            loss = losses * len(part) / len(batch)
            if not bool(torch.isfinite(loss)):
                raise InputError(
                    f"layer {lessons.layer}: the loss of a trained direction is {float(loss.detach())}; leave rdo away with --compare"
                )
            (gradient,) = torch.autograd.grad(loss, [raw])
        raw.grad = gradient if raw.grad is None else raw.grad + gradient
        total += float(loss.detach())
    return total


def losses_of(
    live: LiveModel,
    lessons: Lessons,
    direction: Float[Tensor, " d_model"],
    harmful: Sequence[Tokens],
    harmless: Sequence[Tokens],
    wanted: Sequence[Tokens],
    usual: Sequence[Tokens],
) -> Float[Tensor, ""]:
    """Return the three losses of some prompts, weighted and added, under a unit direction."""
    model, head = live.model, Head(live.model)
    with torch.no_grad():
        original = replied(live, head, harmless, usual)
    edits = dict.fromkeys(live.architecture.writers, (direction[None, None], 1.0))
    with projected(model, live.architecture, edits):
        answers = cross_entropy(replied(live, head, harmful, wanted), wanted)
        moved = kl_divergence(original, replied(live, head, harmless, usual)).mean()
    with added_rows(model, (lessons.length * direction)[None], [lessons.layer], live.architecture):
        refusals = [lessons.refusal] * len(harmless)
        induced = cross_entropy(replied(live, head, harmless, refusals), refusals)
    found: Tensor = answers + ADDED * induced + moved
    return found


def replied(
    live: LiveModel, head: Head, prompts: Sequence[Tokens], targets: Sequence[Tokens]
) -> Float[Tensor, "tokens vocab"]:
    """Return what is predicted at each token of the targets, row after row; at an empty one after the prompt."""
    batch = padded(live, [(*prompt, *target) for prompt, target in zip(prompts, targets, strict=True)])
    hidden = final_hidden(live.model, batch, gradient=True)
    rows = [
        hidden[row, len(prompt) - 1 : len(prompt) - 1 + max(1, len(target))]
        for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True))
    ]
    return head.log_probs(torch.cat(rows), gradient=True)


def cross_entropy(log_probs: Float[Tensor, "tokens vocab"], targets: Sequence[Tokens]) -> Float[Tensor, ""]:
    """Return the mean loss of the targets' tokens."""
    rows: list[int] = []
    tokens: list[int] = []
    at = 0
    for target in targets:
        rows += range(at, at + len(target))
        tokens += target
        at += max(1, len(target))
    if not tokens:  # every reply is empty
        return 0 * log_probs[0, 0]
    found: Tensor = -log_probs[rows, tokens].mean()
    return found
