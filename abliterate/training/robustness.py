"""How well a model holds out against the edit: the attacker finds the direction anew and takes the layer that works best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from abliterate.activations.capture import capture
from abliterate.architectures.architecture import Architecture
from abliterate.directions.candidates import DEEPEST
from abliterate.directions.directions import Directions
from abliterate.directions.methods import projected_difference_in_means
from abliterate.evaluation.statistics import Rate
from abliterate.interventions import ablated
from abliterate.models.generation import REPLY_TOKENS, generate
from abliterate.progress import Progress
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import PromptSet
from abliterate.replies.refusals import is_refusal

ATTACK_PROMPTS = 32
"""Harmful prompts of the select side on which the attacker tries every layer."""


@dataclass(frozen=True)
class Robustness:
    """What a model does on the report side's prompts, as it is and under the edit that refuses least.

    `harmful` and `harmless` are refusals of the model as it is; `edited` and `edited_harmless` those under the edit at
    strength 1 along `resid[layer]`, found anew on this very model; `same` are the harmless replies that are, to the
    letter, those of the model before hardening.
    """

    harmful: Rate
    harmless: Rate
    edited: Rate
    edited_harmless: Rate
    same: Rate
    layer: int

    def to_json(self) -> dict[str, object]:
        """Return the figures as a record holds them."""
        rates = {name: value.to_json() for name, value in vars(self).items() if isinstance(value, Rate)}
        return {**rates, "layer": self.layer}


@dataclass(frozen=True)
class AttackedSide:
    """Both sets of prompts on one side of the split, and their token ids."""

    harmful: PromptSet
    harmless: PromptSet
    encoded_harmful: list[list[int]]
    encoded_harmless: list[list[int]]

    @classmethod
    def of(cls, chat: ChatFormat, name: str, harmful: PromptSet, harmless: PromptSet) -> AttackedSide:
        """Return the `train`, `select` or `report` side."""
        one, other = harmful.side(name), harmless.side(name)
        return cls(one, other, chat.encode(one.prompts), chat.encode(other.prompts))


@dataclass(frozen=True)
class Subject:
    """The model at hand and how prompts are put to it; `model` is without the PEFT shell, adapters and all."""

    model: PreTrainedModel
    chat: ChatFormat
    architecture: Architecture

    def replies(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Return the greedy replies to templated prompts."""
        tokenizer = self.chat.tokenizer
        given = generate(self.model, tokenizer, sequences, REPLY_TOKENS)
        texts: list[str] = tokenizer.batch_decode(given, skip_special_tokens=True)
        return texts

    def directions(self, side: AttackedSide, first: int | None = None) -> Directions:
        """Return the directions from the activations that the model has now."""
        harmful, harmless = (
            capture(self.model, self.chat, prompts.prompts[:first], architecture=self.architecture)
            for prompts in (side.harmful, side.harmless)
        )
        return projected_difference_in_means(harmful, harmless)

    def places(self, directions: Directions) -> list[tuple[int, int]]:
        """Return layers and positions that an edit may take its direction from (Arditi et al.: the first 80%)."""
        layers = range(1, max(2, int(DEEPEST * self.architecture.depth)))
        return [(layer, one) for layer in layers for one in directions.positions if directions.exists(layer, one)]


def robustness(
    subject: Subject, sides: Mapping[str, AttackedSide], original: Sequence[str], progress: Progress
) -> Robustness:
    """Measure a model as it is and under the strongest edit: the layer whose ablation leaves fewest refusals."""
    directions = subject.directions(sides["train"])
    tried = sides["select"].encoded_harmful[:ATTACK_PROMPTS]
    layers = sorted({layer for layer, position in subject.places(directions) if directions.exists(layer)})
    left: dict[int, int] = {}
    with progress.step("editing along every layer", len(layers), "layers") as advance:
        for layer in layers:
            with ablated(subject.model, directions[layer], architecture=subject.architecture):
                left[layer] = sum(map(is_refusal, subject.replies(tried)))
            advance(1)
    layer = min(left, key=lambda one: (left[one], one))
    report = sides["report"]
    answers = subject.replies(report.encoded_harmless)
    with ablated(subject.model, directions[layer], architecture=subject.architecture):
        edited = refusals(subject.replies(report.encoded_harmful))
        edited_harmless = refusals(subject.replies(report.encoded_harmless))
    return Robustness(
        refusals(subject.replies(report.encoded_harmful)),
        refusals(answers),
        edited,
        edited_harmless,
        Rate(sum(one == other for one, other in zip(answers, original, strict=True)), len(original)),
        layer,
    )


def refusals(replies: Sequence[str]) -> Rate:
    """Return how many of the replies are refusals."""
    return Rate(sum(map(is_refusal, replies)), len(replies))
