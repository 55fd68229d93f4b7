"""What a study of clusters is asked, which parts of the phrases it uses for what, and what a quick one leaves away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from abliterate.studies.clusters.material import ENOUGH, QUICK_ENOUGH
from abliterate.studies.clusters.options import BASELINES, Anchor, Baseline, Method, Step, Target
from abliterate.studies.clusters.stability import NULL
from abliterate.studies.common import CONTROLS

TRAIN, CHOSEN, SHOWN = "train", "select", "report"

QUICK_NULL = 10
QUICK_CONTROLS = 2

QUICK_STEPS = 1
"""Steps of the trained direction in a quick study."""


@dataclass(frozen=True)
class Asked:
    """What a study of clusters is asked, besides model, phrases and forms."""

    method: Method = "gradient"
    layer: Literal["auto"] | int = "auto"
    clusters: Literal["auto"] | int = "auto"
    anchor: Anchor = "matched"
    target: Target = "crossed"
    step: Step = "scaled"
    compare: tuple[Baseline, ...] = BASELINES
    tokens: int = 32
    seed: int = 0
    quick: bool = False
    null: int = NULL

    @property
    def enough(self) -> int:
        """Return how many refused prompts are needed."""
        return QUICK_ENOUGH if self.quick else ENOUGH

    @property
    def made_of(self) -> tuple[str, ...]:
        """Return the parts that clusters are made of: with the select part in a quick study, whose train part is too small."""
        return (TRAIN, CHOSEN) if self.quick else (TRAIN,)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Return the parts that effects are shown on."""
        return (SHOWN,) if self.quick else (CHOSEN, SHOWN)

    @property
    def walks(self) -> bool:
        """Return whether prompts' directions are of walks along gradients, which a prompt has on its own."""
        return self.method == "gradient" or (self.method == "concept" and self.anchor == "gradient")

    @property
    def controls(self) -> int:
        """Return how many random directions, and random splits, there are."""
        return QUICK_CONTROLS if self.quick else CONTROLS
