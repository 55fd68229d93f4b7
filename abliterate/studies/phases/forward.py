"""A safety vector by reading the target: the mean state while the model reads a safe reply minus that while it reads another.

Both replies are the model's own, to the same prompt, of the same length, their first token left out. The state before a reply
does not depend on it: read there, the difference is exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.places import capture_places
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.studies.replies import Tokens

LEAST = 2
"""Tokens that both replies must have: the first is left out."""

MOST = 32
"""Tokens of each reply that are read."""


@dataclass(frozen=True)
class Targets:
    """Two replies to one prompt: a safe one, and one that goes on; `begun` where the second was begun for the model."""

    text: Text
    safe: Tokens
    content: Tokens
    begun: bool = False

    @property
    def length(self) -> int:
        """Return how many tokens of both are read."""
        return min(len(self.safe), len(self.content), MOST)


def forward(live: LiveModel, layer: int, targets: Sequence[Targets]) -> Float[Tensor, " d_model"]:
    """Return the mean over prompts of what reading the safe reply has in the stream beyond reading the other.

    Raises InputError where no prompt has two replies of two tokens.
    """
    usable = [one for one in targets if one.length >= LEAST]
    if not usable:
        raise InputError("no prompt has both a safe reply and one that goes on; give more --samples or more phrases")
    differences = []
    for one in usable:
        both = [read(one.text, reply[: one.length]) for reply in (one.safe, one.content)]
        names = [f"read[{place}]" for place in range(1, one.length)]
        placed = capture_places(live, both, names, [layer])
        means = placed.resid[:, 0].double().mean(1)
        differences.append(means[0] - means[1])
    return torch.stack(differences).mean(0)


def read(text: Text, reply: Tokens) -> Text:
    """Return a text with a reply behind it, each token of which has a place."""
    start = len(text.tokens)
    return Text((*text.tokens, *reply), {f"read[{place}]": start + place for place in range(len(reply))})
