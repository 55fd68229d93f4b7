"""The directions of both sides: harmful prompts', by the same procedure harmless ones', and those of a prompt on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from abliterate.activations.places import capture_places
from abliterate.models.live_model import LiveModel
from abliterate.storage.record_log import RecordLog
from abliterate.studies.clusters.asked import SHOWN, Asked
from abliterate.studies.clusters.inputs import PLACE, InputDirections, concept, input_directions
from abliterate.studies.clusters.material import Material
from abliterate.studies.clusters.options import Anchor


@dataclass(frozen=True)
class Sides:
    """Directions, by the places of their prompts in the material.

    `own` are those of all harmful prompts, `calm` of the harmless ones that match clustered ones. `alone` are those of the report
    part's harmful prompts and of its harmless ones, each known from the prompt on its own.
    """

    own: InputDirections
    calm: InputDirections
    alone: tuple[InputDirections, InputDirections]


def both_sides(live: LiveModel, material: Material, layer: int, asked: Asked, kept: RecordLog | None = None) -> Sides:
    """Return the directions of both sides. Raises InputError as `input_directions`.

    A harmless state has no match of its own: those are held against their mean. Frames of which there are several have their
    means taken away, side by side.
    """
    made_of = material.places(*asked.made_of)
    own = input_directions(
        live, material.harmful, layer, asked.method, targets=material.targets, harmless=material.harmless,
        anchor=asked.anchor, step=asked.step, kept=kept,
    )  # fmt: skip
    # What needs gradients is walked once for both uses of harmless prompts: a walk knows of no other prompt.
    more = [place for place in material.places(SHOWN) if place not in made_of] if asked.walks else []
    calm = harmless_side(live, material, layer, asked, [*made_of, *more], kept)
    if asked.walks:
        alone = own.of(material.places(SHOWN)), calm.of(material.places(SHOWN))
    else:
        alone = against_mean(live, material, layer, made_of, kept)
    frames = material.attributes.get("frame", ())
    found = (own, calm.of(made_of), *alone)
    if len(set(frames)) > 1:
        found = tuple(without_frames(one, frames) for one in found)  # type: ignore[assignment]
    return Sides(found[0], found[1], (found[2], found[3]))


def harmless_side(
    live: LiveModel, material: Material, layer: int, asked: Asked, places: Sequence[int], kept: RecordLog | None
) -> InputDirections:
    """Return the directions of harmless prompts, made as those of harmful ones are."""
    quiet = [material.harmless[place] for place in places]
    anchor: Anchor = "mean" if asked.anchor == "matched" else asked.anchor
    found = input_directions(
        live, quiet, layer, asked.method, targets=material.targets, harmless=quiet, anchor=anchor, step=asked.step,
        kept=kept,
    )  # fmt: skip
    return replace(found, kept=tuple(places[row] for row in found.kept))


def against_mean(
    live: LiveModel, material: Material, layer: int, made_of: Sequence[int], kept: RecordLog | None
) -> tuple[InputDirections, InputDirections]:
    """Return the states of the report part less the mean of the harmless prompts of other parts, harmful ones first.

    The matched phrase of a prompt is not known to who has the prompt alone, nor is that of a harmless one.
    """
    shown = material.places(SHOWN)
    texts = [some[place] for some in (material.harmful, material.harmless) for place in shown]
    quiet = [material.harmless[place] for place in made_of]
    states = capture_places(live, [*texts, *quiet], (PLACE,), [layer], kept=kept).at(PLACE, layer).float()
    mean = states[len(texts) :].mean(0)
    harmful, harmless = states[: len(shown)], states[len(shown) : len(texts)]
    return concept(harmful - mean, harmful, layer, tuple(shown)), concept(
        harmless - mean, harmless, layer, tuple(shown)
    )


def without_frames(own: InputDirections, frames: Sequence[str]) -> InputDirections:
    """Return directions from which each frame's mean is taken away, beyond what all frames have."""
    vectors, whole = own.vectors.clone(), own.vectors.mean(0)
    named = [frames[place] for place in own.kept]
    for name in set(named):
        inside = [row for row, one in enumerate(named) if one == name]
        vectors[inside] -= own.vectors[inside].mean(0) - whole
    return replace(own, vectors=torch.nn.functional.normalize(vectors, dim=-1))
