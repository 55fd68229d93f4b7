"""How an edited model is healed, declared once. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from abliterate.errors import InputError
from abliterate.records.option import Declaration, Panel, declarations, flag_of, option
from abliterate.training.examples import TRAINING_METHODS, check_method

RATES: Mapping[str, float] = {"sft": 2e-4, "dpo": 1e-5}
"""Learning rates that are usual for a LoRA."""


@dataclass(frozen=True)
class HealOptions:
    """How to heal. `steps` bounds the optimiser's steps; without it, all examples are seen `epochs` times.

    `batch_size` examples are taken at once, `accumulation` times a step. `adapter` writes the LoRA alone in place
    of the merged checkpoint, `lora_alpha` None is twice the `rank`. `beta` is DPO's. The flags are called as trl calls
    them. Raises InputError for values out of range.
    """

    PANEL: ClassVar[Panel] = "training"

    method: str = option(
        "sft",
        Declaration(
            "sft (messages, or prompt and completion) or dpo (chosen and rejected).", words=tuple(TRAINING_METHODS)
        ),
    )
    adapter: bool = option(False, Declaration("Write the LoRA alone, not the merged checkpoint.", kind=bool))
    rank: int = option(16, Declaration("Rank of the LoRA.", read=int, kind=int, flag="--lora-r"))
    lora_alpha: int | None = option(
        None, Declaration("Its scaling is this over the rank. \\[default: twice the rank]", read=int, kind=int)
    )
    learning_rate: float | None = option(
        None,
        Declaration("\\[default: 2e-4 with sft, 1e-5 with dpo]", read=float, kind=float),
    )
    epochs: float = option(
        1.0,
        Declaration(
            "Times that all examples are seen, without --steps.", read=float, kind=float, flag="--num-train-epochs"
        ),
    )
    steps: int | None = option(None, Declaration("Optimiser steps. \\[default: by epochs]", read=int, kind=int))
    batch_size: int = option(
        4, Declaration("Examples at once.", read=int, kind=int, flag="--per-device-train-batch-size")
    )
    accumulation: int = option(
        4, Declaration("Batches a step.", read=int, kind=int, flag="--gradient-accumulation-steps")
    )
    max_length: int = option(1024, Declaration("Tokens of an example, at most.", read=int, kind=int))
    beta: float = option(0.1, Declaration("How far DPO may go from the model.", read=float, kind=float))
    limit: int | None = option(None, Declaration("Examples, at most.", read=int, kind=int))
    seed: int = option(0, Declaration("Seed of everything random.", read=int, kind=int))

    def __post_init__(self) -> None:
        check_method(self.method)
        for name, one in declarations(type(self)).items():
            value = getattr(self, name)
            if one.kind in (int, float) and name != "seed" and value is not None and not value > 0:
                raise InputError(f"{flag_of(name, one)} {value}: must be above 0")
        if self.beta != type(self).beta and self.method != "dpo":
            raise InputError("--beta: is of --method dpo; leave it away")

    @property
    def rate(self) -> float:
        """Return the learning rate."""
        return self.learning_rate or RATES[self.method]
