"""How replies are made: the words for it, which options and records take. Imports nothing that takes time."""

from __future__ import annotations

from typing import Literal, get_args

Generation = Literal["greedy", "model"]
GENERATIONS: tuple[Generation, ...] = get_args(Generation)
"""What a user may ask for."""

Manner = Literal["greedy", "model", "sampled"]
"""Besides, what studies ask for: draws from the model's own distribution, whatever its generation config says."""
