"""Heals an edited model: a LoRA by SFT or DPO, with the direction kept out at every step, and proved to be out at the end.

Editing costs a little capability, and fine-tuning wins it back, as NeuralDaredevil showed with DPO on an abliterated
model (https://huggingface.co/blog/mlabonne/abliteration). Plain fine-tuning also wins back what the edit removed;
`KeepDirectionOut` does not let it. The trainers are TRL's.
"""

from __future__ import annotations

import gc
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback

from abliterate.architectures.architecture import find_architecture
from abliterate.checkpoints.quantized_weight import quantised_tensors
from abliterate.directions.files import load_direction
from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.interventions.recipe import Recipe
from abliterate.models.loading import dtype_name, load_model
from abliterate.models.source import Source, load_tokenizer, resolve
from abliterate.pipeline.conditions import carry
from abliterate.progress import SILENT, Advance, Progress
from abliterate.prompts.sources import public_spec
from abliterate.proofs.stream import plain_sequences
from abliterate.records.training_card import provenance, write_record
from abliterate.storage.names import DIRECTIONS, HEALED, RECIPE
from abliterate.storage.staging import Staging, check_destination, check_free
from abliterate.training.examples import check_method, read_examples
from abliterate.training.healed import KeptOut, components, edited_from, prove, reopened, write
from abliterate.training.keep_out import KeepDirectionOut
from abliterate.training.lora import lora_config

FLAGS = ("method", "adapter", "steps", "limit", "seed")
"""Options that the command has a flag for."""

HELD_OUT = 10
"""One example in so many is not trained on: the loss on them is the figure that is reported."""

RATES: Mapping[str, float] = {"sft": 2e-4, "dpo": 1e-5}
"""Learning rates that are usual for a LoRA."""


@dataclass(frozen=True)
class HealOptions:
    """How to heal. `steps` bounds the optimiser's steps; without it, all examples are seen `epochs` times.

    `batch_size` examples are taken at once, `accumulation` times a step. `adapter` writes the LoRA alone in place
    of the merged checkpoint. `beta` is DPO's. Raises InputError for values out of range.
    """

    method: str = "sft"
    adapter: bool = False
    rank: int = 16
    learning_rate: float | None = None
    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 4
    accumulation: int = 4
    max_length: int = 1024
    beta: float = 0.1
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_method(self.method)
        positive = ("rank", "learning_rate", "epochs", "steps", "batch_size", "accumulation", "max_length", "limit")
        for name in (*positive, "beta"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be above 0")

    @property
    def rate(self) -> float:
        """Return the learning rate."""
        return self.learning_rate or RATES[self.method]


@dataclass(frozen=True)
class Training:
    """What training did: optimiser steps, examples learned and held out, the loss on the held-out ones."""

    steps: int
    examples: int
    held_out: int
    loss_before: float
    loss_after: float


@dataclass(frozen=True)
class Healed:
    """A healed model on disk."""

    out: Path
    training: Training
    proof: KeptOut


def heal(
    model: str,
    dataset: str,
    out: Path,
    options: HealOptions | None = None,
    *,
    dtype: str = "auto",
    device: str = "auto",
    offline: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> Healed:
    """Heal an edited checkpoint (a folder or Hub id with the recipe and directions of its edit) and write it to `out`.

    The merged checkpoint or the adapter is read again from disk and proved before it takes the name `out`.
    Raises InputError for what cannot be read or trained, ProofError when the direction came back.
    """
    chosen = options or HealOptions()
    require("train", "healing")
    dtype = dtype_name("--dtype", dtype)
    check_free(out, force)
    examples = read_examples(dataset, chosen.method, limit=chosen.limit, offline=offline)
    source = resolve(model, offline=offline, progress=progress)
    check_destination(source.folder, out)
    if not chosen.adapter and quantised_tensors(source.checkpoint):
        raise InputError(f"{model}: its weights are quantised, and a merged LoRA would not be; write an adapter")
    recipe, basis = edit_of(source)
    live, tokenizer = load_model(source, dtype, device), load_tokenizer(source)
    before = components(live, find_architecture(live), basis, recipe)
    words = ["abliterate", "heal", source.public_name, "--dataset", public_spec(dataset), *flags_of(chosen)]
    words += [*(["--dtype", dtype] if dtype != "auto" else []), "--out", Path(out).name]
    form = "adapter" if chosen.adapter else "checkpoint"
    record = {
        **provenance("healed", form, source, words, ("torch", "transformers", "peft", "trl"), progress),
        "edited_from": edited_from(source),
        "without_flag": {name: value for name, value in changed(chosen).items() if name not in FLAGS},
        "dataset": public_spec(dataset),
        "dataset_digest": digest_of(examples),
        "direction": recipe.direction,
        "dtype": str(live.dtype).removeprefix("torch."),
        "options": asdict(chosen),
    }
    adapted, training = heal_model(live, tokenizer, examples, basis, recipe, chosen, progress)
    with Staging.open(out, f"heal {source.checkpoint.fingerprint()} {dataset} {chosen}", force) as staging:
        write(adapted, source, staging, chosen.adapter)
        del adapted, live
        gc.collect()
        healed = reopened(source, staging, dtype, device, chosen.adapter)
        proof = prove(healed, plain_sequences(tokenizer), basis, recipe, before)
        run = carry(source.folder, staging)
        record |= {"run": run} if run else {}
        record |= {"learning_rate": chosen.rate, "training": asdict(training), "proof": asdict(proof)}
        write_record(staging, HEALED, record, source)
        staging.publish()
    return Healed(out, training, proof)


def changed(options: HealOptions) -> dict[str, Any]:
    """Return the options that are not at their defaults."""
    usual = asdict(HealOptions())
    return {name: value for name, value in asdict(options).items() if value != usual[name]}


def flags_of(options: HealOptions) -> list[str]:
    """Return the words of the command for the options that are not at their defaults, as far as it has flags for them."""
    given = {name: value for name, value in changed(options).items() if name in FLAGS}
    return [word for name, value in given.items() for word in (f"--{name}", *([] if value is True else [str(value)]))]


def digest_of(examples: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the examples, in order: of what was learned from, whatever the file around it."""
    return hashlib.sha256(json.dumps(examples, sort_keys=True, default=str).encode()).hexdigest()


def edit_of(source: Source) -> tuple[Recipe, Float[Tensor, "k d_model"]]:
    """Return the recipe and the direction that a checkpoint was edited by. Raises InputError when it has none."""
    for name in (RECIPE, DIRECTIONS):
        if not (source.folder / name).is_file():
            raise InputError(f"{source.name}: has no {name}; heal a checkpoint that abliterate has edited")
    recipe = Recipe.load(source.folder / RECIPE)
    recipe.require_removal()
    if recipe.direction is None:
        raise InputError(f'{source.folder / RECIPE}: names no direction; add one such as "resid.15"')
    return recipe, load_direction(source.folder / DIRECTIONS, recipe.direction)[None]


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

    Nothing is written. Raises InputError as `KeepDirectionOut.begin`, and where fewer than 2 examples are given.
    """
    require("train", "healing")
    chosen = options or HealOptions()
    if len(examples) < 2:
        raise InputError(f"healing needs at least 2 examples, one of them to measure on; there are {len(examples)}")
    every = min(HELD_OUT, len(examples))
    held_out = [dict(one) for place, one in enumerate(examples) if place % every == 0]
    learned = [dict(one) for place, one in enumerate(examples) if place % every]
    with tempfile.TemporaryDirectory() as folder, quiet_tables():
        trainer = make_trainer(model, tokenizer, learned, held_out, Path(folder), chosen)
        for callback in (KeepDirectionOut(direction, recipe), Telling(progress)):
            trainer.add_callback(callback)
        trainer.remove_callback(PrinterCallback)
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        after = trainer.evaluate()["eval_loss"]
    steps = int(trainer.state.global_step)
    return trainer.model.eval(), Training(steps, len(learned), len(held_out), float(before), float(after))


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
        warmup_steps=0.05,
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
        peft_config=lora_config(options.rank),
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
