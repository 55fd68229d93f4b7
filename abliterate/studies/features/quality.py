"""How well an SAE describes states that it has not seen: variance left over, features that live, what the model loses by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.evaluation.statistics import Mean, json_number
from abliterate.interventions.hooks import at_resid, hooks_of
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.autoencoder import SparseAutoencoder
from abliterate.studies.features.steering import final_states
from abliterate.studies.features.tokens import Span

AT_ONCE = 1024
"""States described at once."""


@dataclass(frozen=True)
class Quality:
    """Figures of held-out states: `fvu` of the SAE and of as many principal components as it has active features.

    `loss` are the cross-entropies of held-out texts: as the model is, with the description in the place of its states, and with
    their mean there.
    """

    fvu: float
    pca: float
    active: float
    alive: float
    loss: dict[str, Mean]

    @property
    def recovered(self) -> float:
        """Return the share of what the mean costs that the description does not."""
        usual, described, mean = (self.loss[name].value for name in ("model", "described", "mean"))
        return (mean - described) / (mean - usual) if mean != usual else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            "fvu": self.fvu, "fvu_pca": self.pca, "active": self.active, "alive": self.alive,
            "loss": {name: one.to_json() for name, one in self.loss.items()}, "recovered": json_number(self.recovered),
        }  # fmt: skip


def unexplained(
    states: Float[Tensor, "tokens d_model"], described: Callable[[Tensor], Tensor], mean: Float[Tensor, " d_model"]
) -> float:
    """Return the share of the variance around `mean` that a description leaves: `sum |x - x^|^2 / sum |x - mean|^2`."""
    left = around = 0.0
    for part in torch.split(states, AT_ONCE):
        rows = part.float()
        left += float((rows - described(rows)).double().square().sum())
        around += float((rows - mean).double().square().sum())
    return left / around if around else math.nan


def components_of(states: Float[Tensor, "tokens d_model"], count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of states and their first principal components `[count, d_model]`, from their covariance in float64."""
    mean = states.double().mean(0)
    covariance = torch.zeros(states.shape[1], states.shape[1], dtype=torch.float64)
    for part in torch.split(states, AT_ONCE):
        centred = part.double() - mean
        covariance += centred.T @ centred
    vectors = torch.linalg.eigh(covariance)[1]
    return mean.float(), vectors.flip(1)[:, :count].T.float().contiguous()


def quality_of(
    live: LiveModel,
    sae: SparseAutoencoder,
    layer: int,
    train: Float[Tensor, "seen d_model"],
    held_out: Float[Tensor, "unseen d_model"],
    spans: Sequence[Span],
) -> Quality:
    """Return how well an SAE describes held-out states, and the texts of `spans`; alive is what fires on any of the states."""
    count = sae.active or round(float((sae.encode(held_out[:AT_ONCE].float()) > 0).float().sum(1).mean()))
    mean, components = components_of(train, count)
    fired = torch.zeros(sae.features, dtype=torch.bool)
    active = 0.0
    for states in (train, held_out):
        for part in torch.split(states, AT_ONCE):
            codes = sae.encode(part.float()) > 0
            fired |= codes.any(0)
            active += float(codes.sum()) if states is held_out else 0.0
    return Quality(
        unexplained(held_out, lambda rows: sae.decode(sae.encode(rows)), mean),
        unexplained(held_out, lambda rows: mean + (rows - mean) @ components.T @ components, mean),
        active / len(held_out),
        float(fired.float().mean()),
        {
            "model": loss_of(live, spans, layer, lambda rows: rows),
            "described": loss_of(live, spans, layer, lambda rows: sae.decode(sae.encode(rows))),
            "mean": loss_of(live, spans, layer, lambda rows: mean.expand_as(rows)),
        },
    )  # fmt: skip


def loss_of(live: LiveModel, spans: Sequence[Span], layer: int, instead: Callable[[Tensor], Tensor]) -> Mean:
    """Return the cross-entropy of what follows the places of each text, with something else in the place of their states."""
    head = Head(live.model)
    losses = []
    for span in spans:
        places = torch.tensor(span.places)

        def change(stream: Tensor, places: Tensor = places) -> Tensor:
            moved = stream.clone()
            moved[:, places.to(stream.device)] = instead(stream[:, places].float()).to(stream)
            return moved

        with hooks_of() as hooks:
            hooks.callback(at_resid(live.model, live.architecture, layer, change).remove)
            (hidden,) = final_states(live, [span.tokens], [len(span.tokens)])
        own = places[places + 1 < len(span.tokens)]
        found = head.log_probs(hidden[own])
        targets = torch.tensor(span.tokens, device=found.device)[own + 1]
        losses.append(float(-found.gather(1, targets[:, None]).mean()))
    return Mean(tuple(losses))
