"""Steerings as values: what acts, how strongly, and on which of the texts; their divergence from the model that is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.interventions import Condition, added, amplified, calibrated, raised
from abliterate.interventions.conditions import When
from abliterate.models.batches import prepare_batches
from abliterate.models.forward import final_hidden
from abliterate.models.head import HEAD_ROWS, Head, check_numbers, kl_divergence
from abliterate.models.live_model import LiveModel
from abliterate.storage.record_log import digest
from abliterate.studies.features.tokens import Tokens

AMPLIFY, CALIBRATE, RAISE, ADD = "amplify", "calibrate", "raise", "add"


@dataclass(frozen=True)
class Steering:
    """Rows that steer at a layer, how and how strongly; `unit` turns a strength into the units of the stream.

    `kind` `add` adds the first row, at its own length times the strength: activation addition, what the others are held against.
    """

    kind: str
    rows: Float[Tensor, "features d_model"]
    layer: int
    strength: float
    unit: float = 1.0
    offset: Float[Tensor, " d_model"] | None = None
    orthogonal: bool = False
    keep_norm: bool = False

    def at(self, strength: float) -> Steering:
        """Return the same at another strength."""
        return replace(self, strength=strength)

    @property
    def key(self) -> list[Any]:
        """Return what tells it from others."""
        offset = None if self.offset is None else digest(self.offset.tolist())
        return [
            self.kind, digest(self.rows.tolist()), self.layer, self.strength, self.unit, offset, self.orthogonal, self.keep_norm,
        ]  # fmt: skip

    def on(self, live: LiveModel, when: When = None) -> AbstractContextManager[Any]:
        """Return the context in which it acts on a model; nothing acts at strength 0."""
        if not self.strength and self.kind != CALIBRATE:
            return nullcontext()
        if self.kind == ADD:
            return added(live.model, self.rows[0], self.layer, live.architecture, scale=self.strength, when=when)
        how: dict[str, Callable[..., AbstractContextManager[Any]]] = {
            AMPLIFY: amplified, CALIBRATE: calibrated, RAISE: raised,
        }  # fmt: skip
        scale = 1.0 if self.kind == AMPLIFY else self.unit
        return how[self.kind](
            live.model, self.rows, self.layer, scale * self.strength, live.architecture, offset=self.offset,
            orthogonal=self.orthogonal, keep_norm=self.keep_norm, when=when,
        )  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """The direction of harmful against harmless prompts at their end, and the component above which a prompt is steered."""

    direction: Float[Tensor, " d_model"]
    layer: int
    threshold: float

    def opens(self, states: Float[Tensor, "texts d_model"]) -> list[bool]:
        """Return for the states at the prompts' ends whether each prompt is steered."""
        found: list[bool] = (states.float() @ self.direction > self.threshold).tolist()
        return found

    @property
    def condition(self) -> Condition:
        """Return the same for each token by itself."""
        return Condition(self.direction, self.layer, self.threshold)


@dataclass(frozen=True)
class Drift:
    """How far a steered model is along the replies of the one left alone: KL in nats and cross-entropy, a mean for each reply."""

    kl: tuple[float, ...]
    loss: tuple[float, ...]


def final_states(
    live: LiveModel, sequences: Sequence[Tokens], lengths: Sequence[int]
) -> list[Float[Tensor, "_ d_model"]]:
    """Return what the head reads at the last `lengths` tokens of each sequence."""
    prepared = prepare_batches(live.model, sequences, live.batch_size, keep=max(lengths), share=False)
    found: list[Tensor] = [torch.empty(0)] * len(sequences)
    for batch in prepared.batches:
        hidden = final_hidden(live.model, batch)
        for row, text in enumerate(batch.rows):
            end = int(batch.lengths[row])
            found[text] = hidden[row, end - lengths[text] : end].clone()
    return found


def drift_of(
    live: LiveModel,
    texts: Sequence[Tokens],
    replies: Sequence[Tokens],
    usual: Sequence[Float[Tensor, "_ d_model"]],
    context: Callable[[], AbstractContextManager[Any]],
) -> Drift:
    """Return the divergence along the replies inside a context; `usual` are the final states without, one for each predicted token."""
    if not texts:
        return Drift((), ())
    with context():
        moved = states_along(live, texts, replies)
    head = Head(live.model)
    kl, loss = [], []
    for reply, before, after in zip(replies, usual, moved, strict=True):
        parts, losses = [], []
        for start in range(0, len(before), HEAD_ROWS):
            own, other = (head.log_probs(one[start : start + HEAD_ROWS]) for one in (before, after))
            parts.append(kl_divergence(own, other))
            said = torch.tensor(reply[start : start + HEAD_ROWS], device=other.device)
            losses.append(-other[: len(said)].gather(1, said[:, None])[:, 0] if len(said) else other[:0, 0])
        values = torch.cat(parts)
        check_numbers(values[None])
        kl.append(float(values.mean()))
        loss.append(float(torch.cat(losses).mean()) if len(reply) else 0.0)
    return Drift(tuple(kl), tuple(loss))


def states_along(
    live: LiveModel, texts: Sequence[Tokens], replies: Sequence[Tokens]
) -> list[Float[Tensor, "_ d_model"]]:
    """Return the final states that predict each token of each reply, and what follows an empty one."""
    sequences = [(*text, *reply[:-1]) for text, reply in zip(texts, replies, strict=True)]
    return final_states(live, sequences, [max(1, len(reply)) for reply in replies])


def equal_drift(
    live: LiveModel, steering: Steering, texts: Sequence[Tokens], wanted: float, most: float, steps: int = 8
) -> Steering:
    """Return the steering at the strength, up to `most`, whose mean KL at the first reply token is `wanted`: by halving."""
    usual = states_along(live, texts, [()] * len(texts))
    low, high = 0.0, most
    for _ in range(steps):
        middle = (low + high) / 2
        found = drift_of(live, texts, [()] * len(texts), usual, lambda at=middle: steering.at(at).on(live))  # type: ignore[misc]
        if sum(found.kl) / len(found.kl) < wanted:
            low = middle
        else:
            high = middle
    return steering.at((low + high) / 2)
