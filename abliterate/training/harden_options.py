"""How a model is hardened, declared once. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from abliterate.records.option import Declaration, Panel, option


@dataclass(frozen=True)
class HardenOptions:
    """How to harden: `harden` says what each of them does."""

    PANEL: ClassVar[Panel] = "training"

    steps: int = option(150, Declaration("With --mode harden: optimiser steps. \\[default: 150]", read=int, kind=int))
    learning_rate: float = option(
        1e-3,
        Declaration(
            "With --mode harden: step of the optimiser. \\[default: 1e-3, which suits the tiny model; a model of 0.5B was given 5e-4]",
            read=float,
            kind=float,
        ),
    )
    rank: int = option(16, Declaration("With --mode harden: rank of the LoRA. \\[default: 16]", read=int, kind=int))
    ablate_probability: float = option(
        0.5,
        Declaration(
            "With --mode harden: share of the harmful rows under ablation; 0 is the control that hardens nothing. \\[default: 0.5]",
            read=float,
            kind=float,
        ),
    )
    batch_size: int = option(8, Declaration("Prompts a side and step.", read=int, kind=int, offered=False))
    refresh: int = option(
        10, Declaration("Steps after which the direction is found anew.", read=int, kind=int, offered=False)
    )
