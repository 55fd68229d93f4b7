"""Refusal direction optimisation: one direction by gradient. Wollschläger et al. 2025, arXiv 2502.17420, section 3 and code.

    1 CE(own ablated reply | r ablated) + .2 CE(refusal | |dim| r added at the layer) + 1 KL(harmless reply | r ablated)

AdamW at 1e-2, betas (.9, .98), amsgrad, no weight decay, batches of 16, one epoch, patience of 5 steps, two cuts of the rate. What
is to be said under ablation is what the model itself says with the difference in means ablated: kept in memory, never written.
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


@dataclass(frozen=True)
class Trained:
    """The unit direction, and the loss of every step."""

    vector: Float[Tensor, " d_model"]
    losses: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the losses and their number."""
        return {"steps": len(self.losses), "losses": list(self.losses)}


@dataclass(frozen=True)
class Lessons:
    """What the direction is trained on: prompts of both sides, how the model refuses, and how long what is added is."""

    harmful: Sequence[Tokens]
    harmless: Sequence[Tokens]
    refusal: Tokens
    start: Float[Tensor, " d_model"]
    length: float
    layer: int


def rdo(live: LiveModel, lessons: Lessons, *, steps: int | None = None, tokens: int = TOKENS, seed: int = 0) -> Trained:
    """Return the trained direction, begun at the difference in means; `steps` ends it before its epoch does.

    Raises InputError for a streaming model, for prompts that are missing on a side, and for a loss that is no number.
    """
    check_gradients(live, "a trained direction", "give more memory, or --compare without rdo")
    if not lessons.harmful or not lessons.harmless:
        raise InputError("a trained direction needs prompts of both sides; give more phrases")
    unit = torch.nn.functional.normalize(lessons.start.float(), dim=0)
    with ablated(live.model, unit, architecture=live.architecture):
        wanted = replies(live, lessons.harmful, tokens)
    usual = replies(live, lessons.harmless, tokens)
    raw = unit.clone().requires_grad_()
    optimiser = torch.optim.AdamW([raw], lr=RATE, betas=BETAS, weight_decay=0.0, amsgrad=True)
    order = torch.randperm(len(lessons.harmful), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)][:steps]
    losses: list[float] = []
    best, vector, waited, cuts = float("inf"), unit, 0, 0
    with live.progress.step("training a direction", len(batches), "steps") as advance:
        for batch in batches:
            before = torch.nn.functional.normalize(raw.detach(), dim=0)
            losses.append(stepped(live, lessons, raw, batch, wanted, usual))
            best, vector, waited = (losses[-1], before, 0) if losses[-1] < best else (best, vector, waited + 1)
            optimiser.step()
            optimiser.zero_grad()
            advance(1)
            if waited >= PATIENCE:
                waited, cuts = 0, cuts + 1
                if cuts > CUTS:
                    break
                optimiser.param_groups[0]["lr"] /= 10
    if losses[-1] <= best:  # the last step was not tried again: it counts where it was still falling
        vector = torch.nn.functional.normalize(raw.detach(), dim=0)
    return Trained(vector, tuple(losses))


def replies(live: LiveModel, prompts: Sequence[Tokens], tokens: int) -> list[Tokens]:
    """Return greedy replies."""
    return [tuple(one) for one in generate(live.model, live.tokenizer, prompts, tokens, batch_size=live.batch_size)]


def stepped(
    live: LiveModel,
    lessons: Lessons,
    raw: Float[Tensor, " d_model"],
    batch: Sequence[int],
    wanted: Sequence[Tokens],
    usual: Sequence[Tokens],
) -> float:
    """Add the gradient of one batch to `raw`, and return its loss. Raises InputError for a loss that is no number."""
    total = 0.0
    for start in range(0, len(batch), PART):
        part = batch[start : start + PART]
        calm = [place % len(lessons.harmless) for place in part]
        harmful = [lessons.harmful[place] for place in part]
        harmless = [lessons.harmless[place] for place in calm]
        with torch.enable_grad():
            losses = losses_of(
                live, lessons, raw, harmful, harmless, [wanted[p] for p in part], [usual[p] for p in calm]
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
    raw: Float[Tensor, " d_model"],
    harmful: Sequence[Tokens],
    harmless: Sequence[Tokens],
    wanted: Sequence[Tokens],
    usual: Sequence[Tokens],
) -> Float[Tensor, ""]:
    """Return the three losses of some prompts, weighted and added."""
    model, head = live.model, Head(live.model)
    direction = torch.nn.functional.normalize(raw, dim=0)
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
