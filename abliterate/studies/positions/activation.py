"""Harmless sentences activate a refusal vector in part: its component token by token, harmful against matched harmless.

The component is `cos(h - m, r)`, where `m` is the mean of harmless states at the same place of the same form: states are
anisotropic, and without `m` most of a cosine is what all states have in common. Both are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.places import capture_places
from abliterate.evaluation.statistics import Rate, json_number
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.studies.positions.cells import Taken
from abliterate.studies.positions.listen import Case, Heard
from abliterate.studies.separation import auroc, auroc_interval, best_threshold

ALIGNED = (
    *(("phrase_start", offset) for offset in (-2, -1, 0)),
    *(("phrase_end", offset) for offset in (-1, 0, 1, 2)),
    *(("prompt_end", offset) for offset in (-3, -2, -1, 0)),
)
"""Places that the curves show: tokens around three that every text has."""

SHOWN = 10
"""Harmless prompts that are named: those of the highest component."""


@dataclass(frozen=True)
class Tokenwise:
    """Components of one vector in one form: harmful and matched harmless prompts of the report part at each place.

    `raw` is the cosine without the mean taken away. `threshold` splits the select part best, at the prompt's end; the other
    figures are of the report part there.
    """

    form: str
    vector: str
    layer: int
    places: tuple[str, ...]
    harmful: Float[Tensor, "prompts places"]
    harmless: Float[Tensor, "prompts places"]
    raw_harmful: Float[Tensor, "prompts places"]
    raw_harmless: Float[Tensor, "prompts places"]
    threshold: float
    texts: tuple[str, ...]
    look_alikes: tuple[float, ...] = ()
    seed: int = 0

    @property
    def ends(self) -> tuple[list[float], list[float]]:
        """Return the components at the prompt's end, harmful and harmless."""
        return self.harmful[:, -1].tolist(), self.harmless[:, -1].tolist()

    @property
    def auroc(self) -> float:
        """Return how well the component parts harmful from harmless prompts at their end."""
        return auroc(*self.ends)

    @property
    def auroc_interval(self) -> tuple[float, float]:
        """Return its 95% interval."""
        return auroc_interval(*self.ends, seed=self.seed)

    @property
    def harmless_above(self) -> Rate:
        """Return how many harmless prompts are above the threshold."""
        return Rate(sum(one >= self.threshold for one in self.ends[1]), len(self.ends[1]))

    @property
    def highest(self) -> list[tuple[str, float]]:
        """Return the harmless phrases of the highest component, with it."""
        order = sorted(range(len(self.texts)), key=lambda place: -self.ends[1][place])[:SHOWN]
        return [(self.texts[place], self.ends[1][place]) for place in order]

    def to_json(self) -> dict[str, object]:
        """Return curves (mean and 95% interval of the mean), AUROC, and what is above the threshold."""
        low, high = self.auroc_interval
        sides = {
            "harmful": self.harmful, "harmless": self.harmless,
            "raw_harmful": self.raw_harmful, "raw_harmless": self.raw_harmless,
        }  # fmt: skip
        extra = {}
        if self.look_alikes:
            above = sum(one >= self.threshold for one in self.look_alikes)
            extra["look_alikes_above"] = Rate(above, len(self.look_alikes)).to_json()
        return {
            "form": self.form,
            "vector": self.vector,
            "layer": self.layer,
            "places": list(self.places),
            "curves": {name: curve_json(values) for name, values in sides.items()},
            "auroc": {"value": json_number(self.auroc), "low": json_number(low), "high": json_number(high)},
            "threshold": self.threshold,
            "harmless_above": self.harmless_above.to_json(),
            "highest": [{"phrase": phrase, "component": value} for phrase, value in self.highest],
            **extra,
        }


def curve_json(values: Float[Tensor, "prompts places"]) -> dict[str, list[float | None]]:
    """Return mean and 95% interval of the mean at each place; places that a prompt does not have are left out of it."""
    found: dict[str, list[float | None]] = {"mean": [], "low": [], "high": []}
    for column in values.T.tolist():
        own = numpy.asarray([one for one in column if one == one])
        mean = float(own.mean()) if len(own) else float("nan")
        half = 1.96 * float(own.std(ddof=1)) / len(own) ** 0.5 if len(own) > 1 else 0.0
        for name, value in (("mean", mean), ("low", mean - half), ("high", mean + half)):
            found[name].append(json_number(value))
    return found


def tokenwise(
    live: LiveModel,
    heard: Heard,
    name: str,
    vector: Float[Tensor, " d_model"],
    layer: int,
    taken: Taken,
    look_alikes: Sequence[Sequence[int]] = (),
) -> Tokenwise | None:
    """Return the components of a vector in a form; None where a part of the split has no phrases.

    `look_alikes` are token ids of whole prompts: of them only the end is looked at, against the mean of the form's own.
    """
    groups = [heard.of(side, split) for split in ("select", "report") for side in ("harmful", "harmless")]
    if not all(groups):
        return None
    cases = [case for group in groups for case in group]
    extra = [Text(tuple(tokens), dict.fromkeys(labels(), len(tokens) - 1)) for tokens in look_alikes]
    texts = [*map(aligned, cases), *extra]
    placed = capture_places(live, texts, labels(), (layer,), cache=taken.cache, kept=taken.kept)
    states = placed.resid[:, 0].double()
    there = torch.tensor([[offset_in(case, *one) for one in ALIGNED] for case in cases])
    states[: len(cases)][~there] = torch.nan
    counts = [len(group) for group in groups]
    parts = torch.split(states[: len(cases)], counts)
    mean = torch.nanmean(torch.cat([parts[1], parts[3]]), 0)
    unit = vector.double() / vector.double().norm()
    select = [cosine(part - mean, unit)[:, -1].tolist() for part in parts[:2]]
    harmful, harmless = (cosine(part - mean, unit) for part in parts[2:])
    return Tokenwise(
        heard.form.name, name, layer, labels(), harmful, harmless, cosine(parts[2], unit), cosine(parts[3], unit),
        best_threshold(*select), tuple(case.phrase.harmless for case in groups[3]),
        tuple(cosine(states[len(cases) :, -1] - mean[-1], unit).tolist()), taken.seed,
    )  # fmt: skip


def labels() -> tuple[str, ...]:
    """Return the names of the aligned places."""
    return tuple(name if not offset else f"{name}{offset:+d}" for name, offset in ALIGNED)


def aligned(case: Case) -> Text:
    """Return the prompt with the aligned places; one that is outside of it stands at its nearest token, and is not used."""
    end = case.text.place("prompt_end")
    places = [min(end, max(0, case.text.place(name) + offset)) for name, offset in ALIGNED]
    return Text(case.text.tokens, dict(zip(labels(), places, strict=True)))


def offset_in(case: Case, name: str, offset: int) -> bool:
    """Return whether a place is inside of the prompt; those around the phrase must not run into its other end."""
    place = case.text.place(name) + offset
    if name == "phrase_end" and offset < 0 and place < case.text.place("phrase_start"):
        return False
    return 0 <= place <= case.text.place("prompt_end")


def cosine(states: Float[Tensor, "*rows d_model"], unit: Float[Tensor, " d_model"]) -> Float[Tensor, "*rows"]:
    """Return the cosine of states with a unit vector; 0 of a state without length, NaN where a state is not there."""
    lengths = states.norm(dim=-1).clamp_min(1e-12)
    return (states @ unit).div(lengths)
