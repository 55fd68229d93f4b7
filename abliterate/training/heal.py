"""Heals an edited model: a LoRA by SFT or DPO, with the direction kept out at every step, and proved to be out at the end.

Editing costs a little capability, and fine-tuning wins it back, as NeuralDaredevil showed with DPO on an abliterated
model (https://huggingface.co/blog/mlabonne/abliteration). Plain fine-tuning also wins back what the edit removed;
`KeepDirectionOut` does not let it. The trainers are TRL's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.interventions.recipe import Recipe
from abliterate.progress import SILENT, Advance, Progress
from abliterate.storage.temporary import temporary_folder
from abliterate.training.heal_options import HealOptions
from abliterate.training.keep_out import KeepDirectionOut
from abliterate.training.lora import new_lora_config, require_changed

HELD_OUT = 10
"""One example in so many is not trained on: the loss on them is the figure that is reported."""

WARMUP = 20
"""One step in so many is for warming up, of which the first has a rate of 0: few steps have none to give away."""


@dataclass(frozen=True)
class Training:
    """What training did: optimiser steps, examples learned and held out, the loss on the held-out ones."""

    steps: int
    examples: int
    held_out: int
    loss_before: float
    loss_after: float


def heal_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Mapping[str, Any]],
    direction: Float[Tensor, "*k d_model"],
    recipe: Recipe | None = None,
    options: HealOptions | None = None,
    progress: Progress = SILENT,
) -> tuple[Any, Training]:
    """Train a LoRA on a live edited model, `direction` kept out; return the `peft.PeftModel` and what training did.

    Nothing is written. Raises InputError as `KeepDirectionOut.begin`, where fewer than 2 examples are given, for a loss
    that is NaN or infinite, and where training changed nothing.
    """
    require("train", "healing")
    chosen = options or HealOptions()
    if len(examples) < 2:
        raise InputError(f"healing needs at least 2 examples, one of them to measure on; there are {len(examples)}")
    every = min(HELD_OUT, len(examples))
    held_out = [dict(one) for place, one in enumerate(examples) if place % every == 0]
    learned = [dict(one) for place, one in enumerate(examples) if place % every]
    with temporary_folder() as folder, quiet_tables():
        trainer = make_trainer(model, tokenizer, learned, held_out, Path(folder), chosen)
        for callback in (KeepDirectionOut(direction, recipe), Telling(progress)):
            trainer.add_callback(callback)
        trainer.remove_callback(PrinterCallback)
        before = finite_loss(trainer, "before healing")
        trainer.train()
        after = finite_loss(trainer, "after healing")
    steps = int(trainer.state.global_step)
    require_changed(trainer.model, f"healing, in {steps} steps at a learning rate of {chosen.rate:g},")
    return trainer.model.eval(), Training(steps, len(learned), len(held_out), before, after)


def finite_loss(trainer: Any, when: str) -> float:
    """Return the loss on the held-out examples. Raises InputError where it is NaN or infinite."""
    loss = float(trainer.evaluate()["eval_loss"])
    if not math.isfinite(loss):
        raise InputError(f"the loss on the held-out examples is {loss} {when}; lower the rate, or pass --dtype float32")
    return loss


def optimizer_steps(examples: int, options: HealOptions) -> int:
    """Return how many steps the trainer takes, as it counts them."""
    if options.steps:
        return options.steps
    batches = math.ceil(examples / options.batch_size)
    return math.ceil(options.epochs * max(1, math.ceil(batches / options.accumulation)))


def make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    learned: list[dict[str, Any]],
    held_out: list[dict[str, Any]],
    folder: Path,
    options: HealOptions,
) -> Any:
    """Return TRL's trainer for the method, which writes to `folder` alone and reports to nobody."""
    import trl
    from datasets import Dataset

    library: Any = trl  # which exports its names lazily
    names = ("SFTTrainer", "SFTConfig") if options.method == "sft" else ("DPOTrainer", "DPOConfig")
    kind, configure = (getattr(library, name) for name in names)
    on_cpu = model.device.type == "cpu"
    # TRL recomputes activations unless told not to, which a LoRA rarely needs; transformers renames the switch.
    known = {one.name for one in fields(configure)}
    checkpointing = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
    settings = configure(
        output_dir=str(folder),
        max_length=options.max_length,
        learning_rate=options.rate,
        num_train_epochs=options.epochs,
        max_steps=options.steps or -1,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        gradient_accumulation_steps=options.accumulation,
        lr_scheduler_type="cosine",
        warmup_steps=optimizer_steps(len(learned), options) // WARMUP,
        seed=options.seed,
        bf16=model.dtype == torch.bfloat16 and not on_cpu,
        use_cpu=on_cpu,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=not on_cpu,
        **{checkpointing: False},
        **({"beta": options.beta} if options.method == "dpo" else {}),
    )
    return kind(
        model=model,
        args=settings,
        train_dataset=Dataset.from_list(learned),
        eval_dataset=Dataset.from_list(held_out),
        processing_class=tokenizer,
        peft_config=new_lora_config(options.rank, options.lora_alpha),
    )


class Telling(TrainerCallback):  # type: ignore[misc]
    """Tells a Progress how far training is."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.step: Any = None
        self.advance: Advance | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the step."""
        self.step = self.progress.step("healing", state.max_steps, "steps")
        self.advance = self.step.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Count one."""
        if self.advance is not None:
            self.advance(1)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the step."""
        if self.step is not None:
            self.step.__exit__(None, None, None)


@contextmanager
def quiet_tables() -> Iterator[None]:
    """Inside the context, the datasets library draws no bars."""
    import datasets

    drawn = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if drawn:
            datasets.enable_progress_bars()
