"""Hardens a model against the edit: a LoRA learns to refuse while the refusal direction is ablated at random.

Refusal feature adversarial training, Yu et al. 2024, arXiv 2409.20089: an attack that removes refusal acts by removing
the refusal direction, so the worst case of training is that ablation, which costs one projection and no search. The
direction moves as the model learns, so it is found anew every few steps; and since an attacker may take any layer and
position, each ablated row draws its own.

The targets are the model's own greedy replies: no text is made up.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from abliterate.architectures.architecture import find_architecture
from abliterate.errors import InputError, NoRefusalsError
from abliterate.extras import require
from abliterate.interventions import ablated_rows
from abliterate.models.batches import model_device
from abliterate.models.generation import REPLY_TOKENS, end_tokens, generate
from abliterate.progress import SILENT, Progress
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.given import given_set
from abliterate.prompts.prompt_set import MINIMUM, check_pair
from abliterate.replies.never import shown, why_never
from abliterate.replies.refusals import is_refusal
from abliterate.training.harden_options import HardenOptions
from abliterate.training.lora import new_lora, require_changed
from abliterate.training.robustness import AttackedSide, Robustness, Subject, robustness

DIRECTION_PROMPTS = 64
"""Prompts a side that the direction is found anew from while training."""

WARMUP = 20
"""One step in so many is for warming up, of which the first has a rate of 0: few steps have none to give away."""

IGNORED = -100
"""The label of tokens that are not learned, as transformers has it."""


@dataclass(frozen=True)
class HardenResult:
    """The model with its LoRA (`peft.PeftModel`), how robust it was and is, and the loss of every step."""

    model: Any
    before: Robustness
    after: Robustness
    losses: tuple[float, ...]
    targets: tuple[int, int]
    settings: dict[str, float | int]

    def to_json(self) -> dict[str, object]:
        """Return settings and figures; `targets` are the harmful and harmless prompts that were trained on."""
        return {
            "method": "refusal feature adversarial training, arXiv 2409.20089",
            "settings": dict(self.settings),
            "targets": {"harmful": self.targets[0], "harmless": self.targets[1]},
            "loss": {"first": self.losses[0], "last": self.losses[-1]},
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


@dataclass(frozen=True)
class Example:
    """A templated prompt and the reply to learn, as token ids."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]


def harden(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | ChatFormat,
    harmful: object,
    harmless: object,
    *,
    steps: int = HardenOptions.steps,
    ablate_probability: float = HardenOptions.ablate_probability,
    rank: int = HardenOptions.rank,
    learning_rate: float = HardenOptions.learning_rate,
    batch_size: int = HardenOptions.batch_size,
    refresh: int = HardenOptions.refresh,
    seed: int = 0,
    progress: Progress = SILENT,
) -> HardenResult:
    """Train a LoRA of `rank` on `model` so that it refuses also without its refusal direction; measure before and after.

    Every step takes `batch_size` prompts a side of the train side of the split; each harmful row is ablated
    with `ablate_probability`, along a direction found anew every `refresh` steps. The attacker's layer is chosen on the
    select side, and all figures are of the report side. The LoRA is put on `model` itself. Prompts are given as to `capture`.

    Raises InputError for settings out of range or without the `peft` package, NoRefusalsError for a model that refuses
    fewer than 8 training prompts: it has nothing to defend.
    """
    require("train", "hardening", "peft")
    check_settings({"steps": steps, "batch_size": batch_size, "refresh": refresh, "rank": rank}, ablate_probability)
    refused, answered = given_set(harmful), given_set(harmless)
    check_pair(refused, answered)
    chat = tokenizer if isinstance(tokenizer, ChatFormat) else ChatFormat(tokenizer)
    sides = {name: AttackedSide.of(chat, name, refused, answered) for name in ("train", "select", "report")}
    subject = Subject(model.eval(), chat, find_architecture(model))
    original = subject.replies(sides["report"].encoded_harmless)
    refusals, answers = own_replies(subject, sides["train"], progress)
    before = robustness(subject, sides, original, progress)
    adapted = new_lora(model, rank, seed)
    losses = train(
        subject,
        adapted,
        (refusals, answers),
        sides["train"],
        Schedule(steps, ablate_probability, learning_rate, batch_size, refresh, seed),
        progress,
    )
    after = robustness(subject, sides, original, progress)
    settings = {"steps": steps, "ablate_probability": ablate_probability, "rank": rank, "learning_rate": learning_rate}
    settings |= {"batch_size": batch_size, "refresh": refresh, "seed": seed}
    return HardenResult(adapted, before, after, tuple(losses), (len(refusals), len(answers)), settings)


def check_settings(counts: Mapping[str, int], ablate_probability: float) -> None:
    """Raise InputError for settings out of range."""
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} {value}: must be at least 1")
    if not 0 <= ablate_probability <= 1:
        raise InputError(f"ablate_probability {ablate_probability}: must be from 0 to 1")


def own_replies(subject: Subject, side: AttackedSide, progress: Progress) -> tuple[list[Example], list[Example]]:
    """Return the model's own refusals of harmful and its own answers to harmless prompts, with the token that ends them.

    Raises NoRefusalsError where there are fewer than 8.
    """
    tokenizer = subject.chat.tokenizer
    found: list[list[Example]] = []
    for sequences, wanted in ((side.encoded_harmful, True), (side.encoded_harmless, False)):
        replies = generate(subject.model, tokenizer, sequences, REPLY_TOKENS, progress=progress, title="own replies")
        texts = tokenizer.batch_decode(replies)
        pairs = zip(sequences, replies, texts, strict=True)
        examples = [Example(tuple(one), tuple(reply)) for one, reply, text in pairs if is_refusal(text) == wanted]
        if len(examples) < MINIMUM:
            cause, sample = why_never(texts, tokenizer.batch_decode(sequences))
            raise NoRefusalsError(
                f"the model {'refuses' if wanted else 'answers'} {len(examples)} of {len(sequences)} "
                f"{'harmful' if wanted else 'harmless'} training prompts; hardening needs at least {MINIMUM}"
                + (f'; {cause}; it says, for instance, "{shown(sample)}"' if wanted else "")
            )
        found.append([ended(subject, one) for one in examples])
    return found[0], found[1]


def ended(subject: Subject, example: Example) -> Example:
    """Return an example with the token that ended its reply: of those that may, the one that the model puts there."""
    ends = sorted(end_tokens(subject.model, subject.chat.tokenizer))
    if len(example.reply) >= REPLY_TOKENS or not ends:
        return example
    tokens = torch.tensor([[*example.prompt, *example.reply]], device=model_device(subject.model))
    with torch.inference_mode():
        logits = subject.model(input_ids=tokens).logits[0, -1]
    return Example(example.prompt, (*example.reply, ends[int(logits[ends].argmax())]))


@dataclass(frozen=True)
class Schedule:
    """How training goes."""

    steps: int
    ablate_probability: float
    learning_rate: float
    batch_size: int
    refresh: int
    seed: int


def train(
    subject: Subject,
    adapted: nn.Module,
    examples: tuple[Sequence[Example], Sequence[Example]],
    side: AttackedSide,
    schedule: Schedule,
    progress: Progress,
) -> list[float]:
    """Train the adapter; return the loss of every step.

    Raises InputError for a loss that is NaN or infinite, and where training changed nothing.
    """
    draw = random.Random(schedule.seed)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=schedule.learning_rate, weight_decay=0.0)
    rate = get_linear_schedule_with_warmup(optimizer, schedule.steps // WARMUP, schedule.steps)
    losses: list[float] = []
    bases: list[Tensor] = []
    with progress.step("hardening", schedule.steps, "steps") as advance:
        for step in range(schedule.steps):
            if step % schedule.refresh == 0:
                subject.model.eval()
                directions = subject.directions(side, DIRECTION_PROMPTS)
                bases = [directions.at(layer, position) for layer, position in subject.places(directions)]
                subject.model.train()
            rows = [one for part in examples for one in draw.choices(part, k=schedule.batch_size)]
            harmful = [True] * schedule.batch_size + [False] * schedule.batch_size
            chosen = torch.stack([draw.choice(bases) for _ in rows])
            ablate = [own and draw.random() < schedule.ablate_probability for own in harmful]
            with ablated_rows(
                subject.model,
                chosen[:, None],
                architecture=subject.architecture,
                strengths=torch.tensor(ablate).float(),
            ):
                loss = loss_of(subject.model, rows)
            if not bool(torch.isfinite(loss)):
                raise InputError(
                    f"the loss of step {step + 1} is NaN or infinite; lower the learning rate, or pass --dtype float32"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
            advance(1)
    subject.model.eval()
    require_changed(adapted, f"hardening, in {schedule.steps} steps at a learning rate of {schedule.learning_rate:g},")
    return losses


def loss_of(model: PreTrainedModel, rows: Sequence[Example]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the reply tokens, in nats."""
    longest = max(len(one.prompt) + len(one.reply) for one in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, IGNORED)
    for place, one in enumerate(rows):
        whole = len(one.prompt) + len(one.reply)
        tokens[place, :whole] = torch.tensor([*one.prompt, *one.reply])
        mask[place, :whole] = 1
        labels[place, len(one.prompt) : whole] = torch.tensor(one.reply)
    device = model_device(model)
    output = model(input_ids=tokens.to(device), attention_mask=mask.to(device), labels=labels.to(device))
    loss: Tensor = output.loss
    return loss
