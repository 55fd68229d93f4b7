"""What a run is asked to do, and what contradicts itself before anything is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from abliterate.architectures.architecture import SITES, Site
from abliterate.directions.directions import Method
from abliterate.errors import InputError
from abliterate.exports.forms import SavedForm
from abliterate.extras import require
from abliterate.models.batches import BatchSize
from abliterate.prompts.chat_format import Thinking

Mode = Literal["ablate", "induce"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class Options:
    """What a run is asked to do; the defaults are those of the command.

    `strength` None is 1 for an ablation; for an addition it is found.
    """

    model: str
    out: Path
    mode: Mode = "ablate"
    layer: int | None = None
    direction: Method = "projected"
    strength: float | None = None
    sites: tuple[Site, ...] = SITES
    harmful: str = "builtin:harmful"
    harmless: str = "builtin:harmless"
    n_train: int = 128
    dtype: str = "auto"
    device: str = "auto"
    batch_size: BatchSize = "auto"
    seed: int = 0
    force: bool = False
    offline: bool = False
    max_memory: int | None = None
    trust_remote_code: bool = False
    allow_unproved: bool = False
    edited_dtype: str | None = None
    save: tuple[SavedForm, ...] = ("checkpoint",)
    optimize: bool = False
    target_refusals: float | None = None
    max_kl: float | None = None
    revision: str | None = None
    system: str | None = None
    thinking: Thinking = "auto"
    chat_template: Path | None = None

    @property
    def removal(self) -> float:
        """Return the strength of an ablation at every site."""
        return 1.0 if self.strength is None else self.strength


def check_options(options: Options) -> None:
    """Raise InputError for flags that contradict each other, and for forms that cannot be written."""
    check_search(options)
    check_induce(options)
    check_save(options)


def check_search(options: Options) -> None:
    """Raise InputError for flags that contradict each other."""
    if options.optimize and options.strength is not None:
        raise InputError("--strength and --optimize: the search finds the strengths; leave one of them away")
    for flag, value in (("--target-refusals", options.target_refusals), ("--max-kl", options.max_kl)):
        if value is not None and not options.optimize:
            raise InputError(f"{flag} chooses among the edits of a search; add --optimize")
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"{flag} {value}: give a number from 0 up")


def check_induce(options: Options) -> None:
    """Raise InputError for flags that say how something is removed, where something is added."""
    if options.mode != "induce":
        return
    taken = {"--optimize": options.optimize, "--sites": options.sites != SITES, "--edited-dtype": options.edited_dtype}
    for flag, given in taken.items():
        if given:
            raise InputError(f"{flag} says how the direction is removed; --mode induce adds it: leave one of them away")
    if options.strength is not None and not (options.strength and math.isfinite(options.strength)):
        raise InputError(f"--strength {options.strength:g} adds nothing that makes sense; give another number")
    if options.save not in (("checkpoint",), ("adapter",)):
        raise InputError(
            f"--save {','.join(options.save)}: --mode induce writes one form, checkpoint or adapter; for llama.cpp, "
            "export the result --to control-vector"
        )


def check_save(options: Options) -> None:
    """Raise InputError for forms that cannot be written."""
    if not {"checkpoint", "adapter"} & set(options.save):
        raise InputError(
            f"--save {','.join(options.save)}: what is measured is a checkpoint or an adapter; add one of them"
        )
    if "adapter" in options.save:
        require("train", "--save adapter", "peft")
    if "gguf-adapter" in options.save:
        require("gguf", "--save gguf-adapter", "gguf")
    if options.edited_dtype and "checkpoint" not in options.save:
        raise InputError("--edited-dtype says how a checkpoint is written; add checkpoint to --save, or leave it away")
