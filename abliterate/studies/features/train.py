"""A Top-K autoencoder with AuxK is trained on captured states (Gao et al. 2024, arXiv 2406.04093), by sae-lens' trainer.

States are divided by the median of their distance from the mean, so that one learning rate serves all models, and multiplied into
the weights again at the end: the SAE reads and writes the stream as it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.progress import SILENT, Progress
from abliterate.storage.atomic import written_whole
from abliterate.studies.features.autoencoder import SparseAutoencoder

RATE = 1e-3
"""Learning rate of Adam, falling to a tenth over the last fifth of the steps."""

AUXILIARY = 1 / 32
"""Weight of AuxK, by which dead features learn what the others leave."""

DEAD_AFTER = 0.1
"""Share of all steps that a feature may be silent before it counts as dead in training."""

TOKENS_A_FEATURE = 4
"""Tokens that each feature needs at least: fewer, and features learn single tokens by heart."""

STAGES = 10
"""Parts of a training; each begins by saying how the one before it ended."""

KEPT_EVERY = 100
"""Steps after which an interrupted training goes on."""


@dataclass(frozen=True)
class Plan:
    """What is learned: features, how many are active, how often the tokens are gone through, and in which batches."""

    features: int
    active: int
    epochs: int
    batch: int
    seed: int

    def steps(self, tokens: int) -> int:
        """Return how many steps that takes."""
        return max(1, math.ceil(self.epochs * tokens / self.batch))

    def check(self, tokens: int) -> None:
        """Raise InputError for too few tokens, and for more active features than there are."""
        if self.active > self.features:
            raise InputError(f"--active {self.active}: more than the {self.features} features; give fewer")
        if tokens < TOKENS_A_FEATURE * self.features:
            raise InputError(
                f"the corpus has {tokens} tokens to learn {self.features} features from; give at least "
                f"{TOKENS_A_FEATURE * self.features} (more --corpus, --texts or --reply-tokens), or at most "
                f"{tokens // TOKENS_A_FEATURE} --features"
            )


def batches(
    states: Float[Tensor, "tokens d_model"], plan: Plan, unit: float, start: int = 0
) -> Iterator[Float[Tensor, "batch d_model"]]:
    """Yield batch after batch without end, from that of step `start` on: each pass in an order of its own, by the seed."""
    step = start
    order: Tensor = torch.empty(0)
    epoch = -1
    while True:
        places = torch.arange(step * plan.batch, (step + 1) * plan.batch)
        rows = []
        for number in range(int(places[0]) // len(states), int(places[-1]) // len(states) + 1):
            if number != epoch:
                order = torch.randperm(
                    len(states), generator=torch.Generator().manual_seed(1_000_003 * plan.seed + number)
                )
                epoch = number
            rows.append(order[places[places // len(states) == number] % len(states)])
        yield states[torch.cat(rows)].float() / unit
        step += 1


def train(
    states: Float[Tensor, "tokens d_model"],
    plan: Plan,
    folder: Path | None = None,
    progress: Progress = SILENT,
    *,
    layer: int | None = None,
    model: str | None = None,
) -> SparseAutoencoder:
    """Return an SAE of the states; `folder` keeps what an interrupted training has left.

    Raises InputError where sae-lens is not installed, for too few tokens, and for states that are all the same.
    """
    require("features", "training an SAE", "sae_lens")
    plan.check(len(states))
    mean = states.double().mean(0).float()
    unit = float(torch.cat([(part.float() - mean).norm(dim=1) for part in torch.split(states, plan.batch)]).median())
    if not unit > 0:
        raise InputError("all states of the corpus are the same: there is nothing to learn; give other texts")
    total = plan.steps(len(states))
    trainer = trainer_of(plan, total, mean / unit)
    start = resume(trainer, folder)
    data = batches(states, plan, unit, start)
    told = f"training {plan.features} features on {len(states)} tokens"
    for first in range(0, total, stage := math.ceil(total / STAGES)):
        last = min(first + stage, total)
        with progress.step(told, last - first, "steps") as advance:
            advance(max(0, min(start, last) - first))
            for step in range(max(first, start), last):
                output = trainer.step(next(data))
                trainer.n_training_steps += 1
                advance(1)
                if step + 1 == last:
                    told = so_far(trainer, output)
                if folder is not None and (step + 1) % KEPT_EVERY == 0 and step + 1 < total:
                    keep(trainer, folder, step + 1)
    trainer.sae.fold_W_dec_norm()
    held: dict[str, Tensor] = {name: one.detach().clone() for name, one in trainer.sae.state_dict().items()}
    about = {"unit": unit, "tokens": len(states), "steps": total, "seed": plan.seed}
    return SparseAutoencoder(
        held["W_enc"], unit * held["b_enc"], held["W_dec"], unit * held["b_dec"], plan.active, None, layer, model, about
    )


def seconds_of(plan: Plan, d_model: int, tokens: int) -> float:
    """Return about how long a training on so many tokens takes here: by a step on random states, which is thrown away.

    Raises InputError where sae-lens is not installed, and for a plan that cannot be.
    """
    require("features", "training an SAE", "sae_lens")
    plan.check(tokens)
    total = plan.steps(tokens)
    trainer = trainer_of(plan, total, torch.zeros(d_model))
    drawn = torch.randn(plan.batch, d_model, generator=torch.Generator().manual_seed(0))
    trainer.step(drawn)  # the first one makes room
    begun = time.monotonic()
    trainer.step(drawn)
    return total * (time.monotonic() - begun)


def so_far(trainer: Any, output: Any) -> str:
    """Return in a line how well the last batch was described: variance left over, active features, those that live."""
    given, described = output.sae_in.detach(), output.sae_out.detach()
    left = (given - described).square().sum() / (given - given.mean(0)).square().sum()
    active = (output.feature_acts > 0).float().sum(1).mean()
    return f"training: FVU {float(left):.3f}, {float(active):.1f} active, {1 - float(trainer.dead_neurons.float().mean()):.0%} alive"


def trainer_of(plan: Plan, total: int, mean: Float[Tensor, " d_model"]) -> Any:
    """Return sae-lens' trainer with a new SAE, which logs nowhere."""
    from sae_lens import LoggingConfig, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        sae = TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=len(mean), d_sae=plan.features, k=plan.active, dtype="float32", device="cpu",
                aux_loss_coefficient=AUXILIARY, rescale_acts_by_decoder_norm=True, apply_b_dec_to_input=True,
                normalize_activations="none",
            )
        )  # fmt: skip
    sae.b_dec.data = mean.clone()
    config = SAETrainerConfig(
        total_training_samples=total * plan.batch, train_batch_size_samples=plan.batch, lr=RATE, lr_end=RATE / 10,
        lr_scheduler_name="constant", lr_decay_steps=total // 5, dead_feature_window=max(10, round(DEAD_AFTER * total)),
        device="cpu", logger=LoggingConfig(log_to_wandb=False),
    )  # fmt: skip
    return SAETrainer(config, sae, iter(()))


def keep(trainer: Any, folder: Path, step: int) -> None:
    """Keep what a training that is interrupted goes on from: weights and step in one file, the optimiser beside it."""
    own = folder / f"step-{step}"
    trainer.save_trainer_state(own)
    with written_whole(folder / "weights.safetensors") as partial:
        save_file(
            {name: one.contiguous() for name, one in trainer.sae.state_dict().items()},
            partial,
            metadata={"step": str(step)},
        )
    for left in folder.glob("step-*"):
        if left != own:
            for file in left.iterdir():
                file.unlink()
            left.rmdir()


def resume(trainer: Any, folder: Path | None) -> int:
    """Take up what was kept; return the step that comes next, 0 where nothing was."""
    path = None if folder is None else folder / "weights.safetensors"
    if folder is None or path is None or not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        step = int((file.metadata() or {}).get("step", 0))
    own = folder / f"step-{step}"
    if not own.is_dir():  # killed between the two: what was before is gone
        return 0
    trainer.sae.load_state_dict(load_file(path))
    trainer.load_trainer_state(own)
    return step
