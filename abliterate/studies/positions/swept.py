"""Every vector added at its layer, with both signs, to its own form and the others, beside its controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.models.live_model import LiveModel
from abliterate.progress import SILENT
from abliterate.storage.record_log import RecordLog
from abliterate.studies.common import CONTROLS, random_vectors, shuffled_vectors
from abliterate.studies.positions.cells import HARM, REFUSED, Cell
from abliterate.studies.positions.listen import Heard, Safety
from abliterate.studies.positions.method import ROBUST, Curve, carries_over, noise_of
from abliterate.studies.positions.sweep import (
    COARSE,
    CONTROL_ALPHAS,
    Said,
    Score,
    best_layer,
    coherent_up_to,
    curve_of,
    curves_of,
    layers_to_try,
    replies_at,
)
from abliterate.studies.replies import Tokens, Unit

PROMPTS = 32
"""Select prompts of a vector's own form, at most..."""

OTHER_PROMPTS = 16
"""...and of each other form, for the choice of the layer, and for controls."""

CONTROL_PROMPTS = 8
"""Select prompts of each other form on which random vectors are added."""

REPLIED = 4
"""Vectors of which replies are made at a few alphas; of the others alphas up to 1 count."""


@dataclass(frozen=True)
class Swept:
    """What one vector does: its curve on its own form, on the others, and its controls' curves on its own form.

    `random_elsewhere` are the random vectors on each other form: what is chance there, its own form does not tell.
    `coherent` is the largest |alpha| that counts, `said` the replies that it was seen from, None where none were made.
    """

    name: str
    form: str
    location: int
    kind: str
    layer: int
    length: float
    effects: Mapping[int, float]
    own: Curve
    others: Mapping[str, Curve]
    controls: Mapping[str, tuple[Curve, ...]]
    random_elsewhere: Mapping[str, tuple[Curve, ...]]
    coherent: float = 1.0
    said: Mapping[float, Said] | None = None

    @property
    def noise(self) -> float:
        """Return the slope up to which an effect on the vector's own form is no more than chance."""
        return noise_of(self.controls["random"])

    @property
    def noises(self) -> dict[str, float]:
        """Return that of every form."""
        return {self.form: self.noise, **{form: noise_of(curves) for form, curves in self.random_elsewhere.items()}}

    @property
    def verdict(self) -> str:
        """Return what the vector does on its own form."""
        return self.own.verdict(self.coherent, self.noise)

    @property
    def verdicts(self) -> dict[str, str]:
        """Return what it does on every form."""
        others = {form: curve.verdict(self.coherent, self.noises[form]) for form, curve in self.others.items()}
        return {self.form: self.verdict, **others}

    @property
    def robust(self) -> bool:
        """Return whether the vector is robust: on its own form and on most others."""
        return carries_over(self.verdict, [self.verdicts[form] for form in self.others])

    def control_verdicts(self, kind: str) -> list[str]:
        """Return what each control vector of a kind does, a random one judged by the noise of the others."""
        curves = self.controls[kind]
        if kind != "random":
            return [curve.verdict(noise=self.noise) for curve in curves]
        return [
            curve.verdict(noise=noise_of([*curves[:place], *curves[place + 1 :]])) for place, curve in enumerate(curves)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return curves, verdicts and controls."""
        return {
            "vector": self.name, "form": self.form, "location": self.location, "kind": self.kind, "layer": self.layer,
            "length": self.length, "effects_by_layer": {str(layer): value for layer, value in self.effects.items()},
            "coherent_up_to": self.coherent, "noise": self.noises, "verdicts": self.verdicts, "robust": self.robust,
            "own": self.own.to_json(), "others": {form: curve.to_json() for form, curve in self.others.items()},
            "controls": {
                kind: [{**curve.to_json(), "verdict": verdict} for curve, verdict in zip(curves, self.control_verdicts(kind), strict=True)]
                for kind, curves in self.controls.items()
            },
            "replies": None if self.said is None else [{"alpha": alpha, **one.to_json()} for alpha, one in self.said.items()],
        }  # fmt: skip


@dataclass(frozen=True)
class Sweeping:
    """How vectors are swept; `controls` is the number of random and shuffled vectors, None for the usual one."""

    live: LiveModel | None
    layers: str | int
    alphas: tuple[float, ...]
    seed: int
    safety: Safety
    kept: RecordLog | None = None
    controls: int | None = None

    @property
    def count(self) -> int:
        """Return how many control vectors of each kind there are."""
        return CONTROLS if self.controls is None else self.controls


def sweep(
    sweeping: Sweeping,
    score: Score,
    heard: Mapping[str, Heard],
    cells: Mapping[str, Cell],
    against: Mapping[int, Float[Tensor, " d_model"]],
) -> dict[str, Swept]:
    """Sweep the vector of each form and location; of harmful against harmless where a form has no other at its prompts' end."""
    prompts = {name: select_prompts(one) for name, one in heard.items()}
    found: dict[str, Swept] = {}
    chosen = [cell for cell in to_sweep(cells) if prompts[cell.form]]
    progress = sweeping.live.progress if sweeping.live is not None else SILENT
    with progress.step("adding each vector", len(chosen), "vectors") as advance:
        for cell in chosen:
            found[cell.name] = swept_of(sweeping, score, cell, cells, prompts, against)
            advance(1)
    if sweeping.live is not None:
        for name in replied(found):
            one = found[name]
            said = replies_at(
                sweeping.live,
                select_unit(heard[one.form]),
                cells[name].vector(one.layer),
                one.layer,
                sweeping.safety,
                sweeping.kept,
            )
            found[name] = replace(one, said=said, coherent=coherent_up_to(said))
    return found


def to_sweep(cells: Mapping[str, Cell]) -> Iterator[Cell]:
    """Yield every vector of refused against answered, and that of harmful against harmless of forms that have no such one."""
    has = {cell.form for cell in cells.values() if cell.kind == REFUSED and cell.location == 1}
    for cell in cells.values():
        if cell.kind == REFUSED or cell.form not in has:
            yield cell


def swept_of(
    sweeping: Sweeping,
    score: Score,
    cell: Cell,
    cells: Mapping[str, Cell],
    prompts: Mapping[str, Sequence[Tokens]],
    against: Mapping[int, Float[Tensor, " d_model"]],
) -> Swept:
    """Return what one vector does, without replies."""
    own = prompts[cell.form]
    few = own[:OTHER_PROMPTS]
    layer, effects = layer_of(sweeping, score, cell, few)
    vector = cell.vector(layer).float()
    length = float(vector.norm())
    others = {
        form: curve_of(score, vector, layer, texts[:OTHER_PROMPTS], COARSE)
        for form, texts in prompts.items()
        if form != cell.form and texts
    }
    random = random_vectors(vector, sweeping.count, sweeping.seed).float()
    elsewhere = {
        form: tuple(curves_of(score, random, layer, prompts[form][:CONTROL_PROMPTS], CONTROL_ALPHAS)) for form in others
    }
    control = {
        "random": random,
        "shuffled": at_length(shuffled_vectors(cell.contrast(layer), sweeping.count, sweeping.seed), length),
    }
    harm = f"{cell.form}/1-{HARM}"
    if cell.kind == REFUSED and harm in cells:
        control["harm"] = at_length(cells[harm].vector(layer)[None], length)
    if layer in against:
        control["against"] = at_length(against[layer][None], length)
    rows = torch.cat([one.float() for one in control.values()])
    curves = iter(curves_of(score, rows, layer, few, CONTROL_ALPHAS))
    controls = {kind: tuple(next(curves) for _ in one) for kind, one in control.items()}
    return Swept(
        cell.name, cell.form, cell.location, cell.kind, layer, length, effects,
        curve_of(score, vector, layer, own, sweeping.alphas), others, controls,
        elsewhere,
    )  # fmt: skip


def layer_of(sweeping: Sweeping, score: Score, cell: Cell, prompts: Sequence[Tokens]) -> tuple[int, dict[int, float]]:
    """Return the layer that the vector is added at, and what was seen of the others."""
    if isinstance(sweeping.layers, int):
        return sweeping.layers, {}
    tried = layers_to_try(max(cell.layers) + 1) if sweeping.layers == "auto" else cell.layers
    return best_layer(score, {layer: cell.vector(layer).float() for layer in tried}, prompts)


def at_length(vectors: Float[Tensor, "vectors d_model"], length: float) -> Float[Tensor, "vectors d_model"]:
    """Return the vectors, all of the same length."""
    return length * torch.nn.functional.normalize(vectors.float(), dim=-1)


def replied(found: Mapping[str, Swept]) -> list[str]:
    """Return the vectors of which replies are made: those of the greatest effect, those of refused against answered first."""
    order = sorted(found, key=lambda name: (found[name].kind != REFUSED, -abs(found[name].own.slope)))
    return order[:REPLIED]


def select_prompts(heard: Heard) -> list[Tokens]:
    """Return the harmful prompts of a form's select part."""
    return [case.text.tokens for case in heard.of("harmful", "select")][:PROMPTS]


def select_unit(heard: Heard) -> Unit:
    """Return them as what replies are asked of."""
    cases = heard.of("harmful", "select")[:PROMPTS]
    return Unit(heard.form, "harmful", tuple(case.phrase for case in cases), tuple(case.text for case in cases))


def tally(found: Mapping[str, Swept]) -> Counter[str]:
    """Return how many vectors do what: `robust` ones carry over, of the others what they do on their own form counts."""
    return Counter(
        ROBUST
        if one.robust
        else f"{ROBUST} on their own form, not on most others"
        if one.verdict == ROBUST
        else one.verdict
        for one in found.values()
    )
