"""One safety vector in several ways, at one layer, for one place: the last token before the reply to a complete prompt.

All is of the train part. The vectors are compared by direction (between the floor of shuffled labels) and, at the length of the
difference in means, by effect (`activation`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.places import capture_places
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.storage.record_log import RecordLog
from abliterate.studies.common import FLOOR_DRAWS, Contrast, floor_between
from abliterate.studies.phases.forward import Targets, forward
from abliterate.studies.phases.neurons import NeuronFindings, neuron_findings
from abliterate.studies.phases.optimised import Optimised, optimised, optimised_each
from abliterate.studies.phases.options import Way
from abliterate.studies.phases.told import Told
from abliterate.studies.replies import TRAIN, Tokens

PROMPTS = 16
"""Prompts that an optimisation, or an attribution, is made of, at most."""

FEW = 8
SINGLE = 8
"""Prompts that get an optimised vector of their own; that of the first is the one-shot vector."""

TARGET = 8
"""Tokens of the refusal that is made likely."""

REFUSED, HARM = "refused minus answered", "harmful minus harmless"


@dataclass(frozen=True)
class Material:
    """What vectors are made of: the complete prompts with their replies of both sides, and the begun ones of the same phrases."""

    complete: Told
    harmless: Told
    begun: Told | None
    enough: int
    seed: int = 0

    @property
    def shares(self) -> list[float]:
        """Return how often each train prompt is refused, over its coherent replies."""
        found = []
        for place in self.complete.places(TRAIN):
            said = [reply.refuses for reply in self.complete.every(place) if not reply.cut.incoherent]
            found.append(sum(said) / len(said) if said else 0.0)
        return found

    @property
    def texts(self) -> list[Text]:
        """Return the train prompts."""
        return [self.complete.unit.texts[place] for place in self.complete.places(TRAIN)]

    @property
    def target(self) -> Tokens:
        """Return how the model opens most of its refusals, in so many tokens; nothing where it never refuses."""
        places = self.complete.places(TRAIN)
        openings = [
            reply.cut.tokens[:TARGET]
            for place in places
            for reply in self.complete.every(place)
            if reply.refuses and not reply.cut.incoherent
        ]
        return Counter(openings).most_common(1)[0][0] if openings else ()

    @property
    def openings(self) -> list[int]:
        """Return the first tokens of its refusals, the most frequent first, that open three quarters of them."""
        counts = Counter(
            reply.cut.tokens[0]
            for place in self.complete.places(TRAIN)
            for reply in self.complete.every(place)
            if reply.refuses and not reply.cut.incoherent
        )
        kept: list[int] = []
        for token, _ in counts.most_common():
            kept.append(token)
            if sum(counts[one] for one in kept) >= 0.75 * counts.total():
                break
        return kept

    @property
    def answered_complete(self) -> list[Tokens]:
        """Return the complete train prompts that are mostly answered."""
        return [text.tokens for text, share in zip(self.texts, self.shares, strict=True) if share < 0.5]

    @property
    def answered(self) -> list[Tokens]:
        """Return prompts that the model goes on with: complete ones, or where these are too few begun ones."""
        own = self.answered_complete
        if len(own) >= FEW or self.begun is None:
            return own[:PROMPTS]
        begun = [
            text.tokens
            for _, text, reply in self.begun.cases(TRAIN)
            if reply.outcome and reply.outcome.fill == "content"
        ]
        return begun[:PROMPTS]

    @property
    def to_turn(self) -> list[Tokens]:
        """Return the prompts that the target is made likely for. Raises InputError where there are none, or no target."""
        if not self.target or not self.answered:
            raise InputError(
                "the model never refuses, or goes on with nothing: there is nothing to make likely, or nowhere"
            )
        return self.answered

    @property
    def pairs(self) -> list[Targets]:
        """Return a safe reply and one that goes on, to the same prompt; of a begun prompt what was begun is part of the second."""
        found = []
        for place in self.complete.places(TRAIN):
            text = self.complete.unit.texts[place]
            replies = [reply for reply in self.complete.every(place) if not reply.cut.incoherent]
            safe = [reply.cut.tokens for reply in replies if reply.refuses]
            content = [reply.cut.tokens for reply in replies if not reply.refuses]
            borrowed = not content and self.begun is not None
            if not content and self.begun is not None:
                begun = self.begun.unit.texts[place].tokens
                if begun[: len(text.tokens)] == text.tokens:
                    content = [(*begun[len(text.tokens) :], *self.begun.greedy[place].cut.tokens)]
            if safe and content:
                found.append(Targets(text, safe[0], content[0], borrowed))
        return found[:PROMPTS]

    def stand_ins(self, ways: Collection[str]) -> list[str]:
        """Return a line for each of these vectors that is made of other prompts than its definition says."""
        answered, pairs = self.answered_complete, self.pairs
        borrowed = sum(one.begun for one in pairs)
        notes = []
        optimised_ways = [way for way in ("optimised", "one-shot") if way in ways]
        if optimised_ways and self.begun is not None and len(answered) < FEW:
            notes.append(
                f"{', '.join(optimised_ways)}: {len(answered)} complete train prompts are answered, fewer than {FEW}: the vector is made of "
                f"{len(self.answered)} begun ones ({self.begun.form.name}) that are gone on with"
            )
        if "forward" in ways and borrowed and self.begun is not None:
            notes.append(
                f"forward: {borrowed} of {len(pairs)} prompts have no answer of the model's own: the reply that goes on was "
                f"begun for it ({self.begun.form.name})"
            )
        if "attribution" in ways and not answered:
            notes.append(
                "attribution: no train prompt is answered: the vector is of neurons of refused against harmless prompts"
            )
        return notes


@dataclass(frozen=True)
class Detected:
    """The vectors by way, at their own length, why others are missing, and what was seen on the way.

    `difference` says of what the difference in means is; `cosines` have the floor of shuffled labels beside them.
    """

    layer: int
    difference: str
    vectors: Mapping[Way, Float[Tensor, " d_model"]]
    missing: Mapping[str, str]
    cosines: tuple[tuple[str, str, float], ...]
    floor: float | None
    optimised: Optimised | None = None
    neurons: NeuronFindings | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()
    """A line for each vector that is made of other prompts than its definition says."""

    def at_equal_length(self) -> dict[str, Float[Tensor, " d_model"]]:
        """Return all vectors at the length of the difference in means, or of the first where that is missing."""
        if not self.vectors:
            return {}
        length = next(iter(self.vectors.values())).norm()
        return {way: length * vector / vector.norm() for way, vector in self.vectors.items()}

    def to_json(self) -> dict[str, Any]:
        """Return all but the vectors themselves."""
        return {
            "layer": self.layer, "difference": self.difference, "missing": dict(self.missing), "floor": self.floor,
            "lengths": {way: float(vector.norm()) for way, vector in self.vectors.items()},
            "cosines": [list(one) for one in self.cosines],
            "optimised": self.optimised.to_json() if self.optimised else None,
            "neurons": self.neurons.to_json() if self.neurons else None, **self.about,
        }  # fmt: skip


def detect(
    live: LiveModel,
    material: Material,
    layer: int,
    ways: Sequence[Way],
    *,
    controls: int,
    kept: RecordLog | None = None,
) -> Detected:
    """Return the vectors of all ways that can be made of the material. Raises InputError for activations that are no numbers."""
    contrast, difference = difference_of(live, material, layer, kept)
    vectors: dict[Way, Tensor] = {}
    missing: dict[str, str] = {}
    seen: dict[str, Any] = {}

    def tried(way: Way, make: Callable[[], Float[Tensor, " d_model"]]) -> None:
        if way in ways:
            try:
                vectors[way] = make()
            except InputError as error:
                missing[way] = str(error)

    calm = [text.tokens for _, text, _ in material.harmless.cases(TRAIN)][:FEW]

    def one_shot() -> Tensor:
        prompts = material.to_turn[:SINGLE]
        single = seen["single"] = optimised_each(live, layer, prompts, [material.target] * len(prompts), calm)
        return single[0]

    def by_optimisation() -> Tensor:
        prompts = material.to_turn
        found = optimised(live, layer, prompts, [material.target] * len(prompts), calm)
        seen["optimised"] = replace(found, single=seen.get("single"))
        return found.vector

    def by_attribution() -> Tensor:
        seen["neurons"], vector = neuron_findings(
            live, material_of_neurons(material), layer, material.openings, controls, material.seed
        )
        return vector

    tried("dim", lambda: contrast.vector)
    tried("one-shot", one_shot)
    tried("optimised", by_optimisation)
    tried("forward", lambda: forward(live, layer, material.pairs))
    tried("attribution", by_attribution)
    least = floor_between(contrast, contrast, draws=FLOOR_DRAWS, seed=material.seed)
    about = {"refused": sum(material.shares), "prompts": len(material.shares), "pairs": len(material.pairs)}
    return Detected(
        layer,
        difference,
        vectors,
        missing,
        cosines_of(vectors),
        least,
        seen.get("optimised"),
        seen.get("neurons"),
        about,
        tuple(material.stand_ins(vectors)),
    )


def material_of_neurons(material: Material) -> dict[str, list[Tokens]]:
    """Return the prompts that attribution compares: refused, answered, and harmless ones."""
    shares = list(zip(material.texts, material.shares, strict=True))
    refused = [text.tokens for text, share in shares if share >= 0.5]
    harmless = [text.tokens for _, text, _ in material.harmless.cases(TRAIN)]
    answered = material.answered_complete
    return {"refused": refused[:PROMPTS], "answered": answered[:PROMPTS], "harmless": harmless[:PROMPTS]}


def difference_of(
    live: LiveModel, material: Material, layer: int, kept: RecordLog | None = None
) -> tuple[Contrast, str]:
    """Return refused against answered prompts where there are enough of both, and else harmful against harmless ones."""
    shares, texts = material.shares, material.texts
    harmless = [text for _, text, _ in material.harmless.cases(TRAIN)]
    placed = capture_places(live, [*texts, *harmless], ("prompt_end",), [layer], kept=kept)
    rows = placed.at("prompt_end", layer)
    if min(sum(shares), len(shares) - sum(shares)) >= material.enough:
        return Contrast.of(rows[: len(texts)], shares), REFUSED
    labels = [1.0] * len(texts) + [0.0] * len(harmless)
    return Contrast.of(rows, labels), HARM


def cosines_of(vectors: Mapping[Way, Float[Tensor, " d_model"]]) -> tuple[tuple[str, str, float], ...]:
    """Return the cosine of each pair of vectors."""
    return tuple(
        (first, second, float(torch.nn.functional.cosine_similarity(vectors[first], vectors[second], dim=0)))
        for first, second in combinations(vectors, 2)
    )
