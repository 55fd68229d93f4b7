"""Where refusal is represented: replies, states, vectors by form and location, how alike they are, what adding them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from abliterate.activations.cache import ActivationCache
from abliterate.architectures.layers import check_layer
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.progress import Advance
from abliterate.projection import remove_component
from abliterate.prompts.forms import Forms
from abliterate.prompts.phrases import Phrases
from abliterate.storage.record_log import RecordLog
from abliterate.studies.common import CONTROLS, Contrast, random_vectors
from abliterate.studies.positions.activation import Tokenwise, tokenwise
from abliterate.studies.positions.cells import (
    HARM,
    REFUSED,
    Cell,
    FormStates,
    Taken,
    first_cells,
    later_cell,
    states_of,
)
from abliterate.studies.positions.edits import PROJECTED, Editing, Edits, edits_of
from abliterate.studies.positions.kinds import Kinds, kinds_at
from abliterate.studies.positions.listen import Heard, Listening, Safety, listen, safe_sentence
from abliterate.studies.positions.method import ENOUGH, LOCATIONS, Curve
from abliterate.studies.positions.options import ALPHAS
from abliterate.studies.positions.similarity import Grouped, Similarity, grouped, similarity_of
from abliterate.studies.positions.sweep import openings_of, score_of
from abliterate.studies.positions.swept import Sweeping, Swept, sweep

Layers = Literal["auto", "all"] | int

REPLY_TOKENS = 64
QUICK_ENOUGH = 3
QUICK_CONTROLS = 2


@dataclass(frozen=True)
class Asked:
    """What a study of positions is asked, besides model, phrases and forms."""

    layers: Layers = "auto"
    samples: int = 4
    tokens: int = REPLY_TOKENS
    alphas: tuple[float, ...] = ALPHAS
    seed: int = 0
    quick: bool = False
    look_alikes: tuple[str, ...] = ()
    against: Mapping[int, Float[Tensor, " d_model"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if 0 not in self.alphas or not any(alpha > 0 and -alpha in self.alphas for alpha in self.alphas):
            raise InputError("--alphas: give 0 and both signs of at least one number, such as -1,0,1")

    @property
    def enough(self) -> int:
        """Return how many refusals and answers a vector needs."""
        return QUICK_ENOUGH if self.quick else ENOUGH


@dataclass(frozen=True)
class Positions:
    """What was found: replies by form, vectors by form and location, how alike they are, what adding them does.

    `cells` holds every vector, those too that have too few cases, which say so; `similar` is by layer.
    """

    asked: Asked
    heard: Mapping[str, Heard]
    cells: Mapping[str, Cell]
    similar: Mapping[int, Similarity]
    groups: Mapping[int, Mapping[str, Grouped | None]]
    kinds: Mapping[int, Kinds | None]
    swept: Mapping[str, Swept]
    tokenwise: Mapping[str, Tokenwise]
    harmless_means: Mapping[str, Float[Tensor, "layers d_model"]]
    layer: int
    replies: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    edits: Edits | None = None
    """What taking out each vector does, and which is best to edit with; None without vectors."""

    @property
    def vectors(self) -> dict[tuple[str, int], dict[int, Float[Tensor, " d_model"]]]:
        """Return the vectors of refused against answered by form and location, each by layer."""
        return {
            (cell.form, cell.location): {layer: cell.vector(layer) for layer in cell.layers}
            for cell in self.cells.values()
            if cell.kind == REFUSED and cell.empty is None
        }

    def similarity(self, layer: int) -> Similarity:
        """Return how alike the vectors are at a layer. Raises InputError for one that was not looked at."""
        if layer not in self.similar:
            raise InputError(f"layer {layer} was not looked at; there are {', '.join(map(str, self.similar))}")
        return self.similar[layer]

    def gain(self, form: str, location: int | str) -> Curve:
        """Return the effect of a vector on its own form, as `found.gain("open", 2)`.

        `"1-harm"` is the vector of harmful against harmless phrases, where it was added. Raises InputError where there is no
        such vector.
        """
        name = f"{form}/{location}"
        if name not in self.swept:
            raise InputError(f"there is no vector {name}; there are {', '.join(self.swept) or 'none'}")
        return self.swept[name].own

    @property
    def robust(self) -> tuple[str, ...]:
        """Return the names of the vectors that are robust."""
        return tuple(name for name, one in self.swept.items() if one.robust)


def positions(
    live: LiveModel,
    phrases: Phrases,
    forms: Forms,
    *,
    layers: Layers = "auto",
    samples: int = 4,
    tokens: int = REPLY_TOKENS,
    alphas: tuple[float, ...] = ALPHAS,
    seed: int = 0,
    quick: bool = False,
    look_alikes: tuple[str, ...] = (),
    against: Mapping[int, Float[Tensor, " d_model"]] | None = None,
    safety: Safety = safe_sentence,
    kept: RecordLog | None = None,
    cache: ActivationCache | None = None,
) -> Positions:
    """Find where refusal is represented in a model: refusal vectors by form and location, and what they have in common.

    `safety` labels sentences; `look_alikes` are harmless prompts that sound harmful; `against` are directions by layer, one
    more control; `kept` and `cache` hold what an interrupted study has left; `quick` asks for fewer cases and controls, for
    trying. Vectors are made on the train part of the phrases, layers and thresholds chosen on the select part, where alphas
    are swept too; the other figures are of the report part, and greedy replies of all. Raises NoRefusalsError for a model
    that never refuses, InputError for a layer out of range and for what the model cannot read.

    Examples:
        >>> phrases, forms = load_phrases("builtin:phrases-tiny").first(24), load_forms().choose(["question"])
        >>> live = LiveModel.of(model, tokenizer)
        >>> found = positions(live, phrases, forms, samples=0, tokens=8, alphas=(-1.0, 0.0, 1.0), quick=True)
        >>> found.heard["question"].starts.count(1)  # how many are refused at once
        24
        >>> found.gain("question", "1-harm").gain(1.0).value > 0
        True
    """
    asked = Asked(layers, samples, tokens, alphas, seed, quick, look_alikes, against or {})
    return study(live, phrases, forms, asked, safety, kept, cache)


def study(
    live: LiveModel,
    phrases: Phrases,
    forms: Forms,
    asked: Asked,
    safety: Safety = safe_sentence,
    kept: RecordLog | None = None,
    cache: ActivationCache | None = None,
) -> Positions:
    """Do `positions` for what is asked as one value."""
    layers = layers_of(asked.layers, live.architecture.depth)
    listening = Listening(asked.tokens, asked.samples, asked.seed, safety, kept)
    heard, replies = listen(live, phrases, forms, listening)
    openings = openings_of(heard)
    taken = Taken(layers, asked.enough, asked.seed, cache, kept)
    states = {name: states_of(live, one, taken) for name, one in heard.items()}
    cells = {cell.name: cell for name in heard for cell in cells_of(live, states[name], taken)}
    usable = {name: cell for name, cell in cells.items() if cell.empty is None}
    sweeping = Sweeping(
        live, asked.layers, asked.alphas, asked.seed, safety, kept, QUICK_CONTROLS if asked.quick else None
    )
    swept = sweep(sweeping, score_of(live, openings, kept), heard, usable, asked.against)
    means = {
        name: one.rows(heard[name].of("harmless", "train"), "harmless").double().mean(0) for name, one in states.items()
    }
    edits = edited_by_place(Editing(live, openings, asked.tokens, safety, kept), heard, usable, swept, means, asked)
    layer = middle_layer(swept, layers)
    with live.progress.step("comparing the vectors", len(layers), "layers") as advance:
        similar, groups = alike(heard, usable, layers, asked, advance)
    look_alikes = live.chat.encode(list(asked.look_alikes)) if asked.look_alikes else []
    curves: dict[str, Tokenwise] = {}
    for name, one in swept.items():
        if usable[name].location == 1:
            own = look_alikes if heard[one.form].form.where == "user" else []
            found = tokenwise(live, heard[one.form], name, usable[name].vector(one.layer), one.layer, taken, own)
            curves |= {name: found} if found else {}
    kinds = {location: kinds_at(usable, location, layer, asked.seed) for location in LOCATIONS}
    return Positions(
        asked, heard, cells, similar, groups, kinds, swept, curves, means, layer, tuple(replies), notes_of(heard, cells),
        edits,
    )  # fmt: skip


def edited_by_place(
    editing: Editing,
    heard: Mapping[str, Heard],
    usable: Mapping[str, Cell],
    swept: Mapping[str, Swept],
    means: Mapping[str, Float[Tensor, "layers d_model"]],
    asked: Asked,
) -> Edits | None:
    """Return what taking out each swept vector does, beside random ones; projected at the first location, as a run's are."""
    vectors: dict[str, tuple[int, Tensor]] = {}
    for name, one in swept.items():
        cell = usable[name]
        if cell.location == 1:
            vectors[f"{name}-{PROJECTED}"] = one.layer, projected(cell, one.layer, means)
        else:
            vectors[name] = one.layer, cell.vector(one.layer)
    if not vectors:
        return None
    count = QUICK_CONTROLS if asked.quick else CONTROLS
    random = random_vectors(next(iter(vectors.values()))[1], count, asked.seed)
    return edits_of(editing, vectors, random, heard)


def projected(
    cell: Cell, layer: int, means: Mapping[str, Float[Tensor, "layers d_model"]]
) -> Float[Tensor, " d_model"]:
    """Return a vector of the first location without what harmless prompts have in common there."""
    return remove_component(cell.vector(layer), means[cell.form][cell.layers.index(layer)])


def middle_layer(swept: Mapping[str, Swept], layers: Sequence[int]) -> int:
    """Return the layer at which vectors are compared: the middle one of those that they are added at."""
    own = [one for one in swept.values() if one.kind == REFUSED] or list(swept.values())
    chosen = sorted(one.layer for one in own) or list(layers)
    return chosen[(len(chosen) - 1) // 2]


def layers_of(layers: Layers, depth: int) -> tuple[int, ...]:
    """Return the layers that are looked at. Raises InputError for one to which nothing can be added."""
    if isinstance(layers, int):
        return (check_layer(layers, depth),)
    return tuple(range(1, depth))


def cells_of(live: LiveModel, states: FormStates, taken: Taken) -> list[Cell]:
    """Return the vectors of a form at all locations, empty ones too."""
    later = [later_cell(live, states.heard, location, taken) for location in LOCATIONS[1:]]
    return [*first_cells(states, taken), *later]


def alike(
    heard: Mapping[str, Heard], usable: Mapping[str, Cell], layers: Sequence[int], asked: Asked, advance: Advance
) -> tuple[dict[int, Similarity], dict[int, dict[str, Grouped | None]]]:
    """Return, by layer, how alike all vectors are, and whether those of like forms are more so."""
    similar, groups = {}, {}
    draws = {"draws": 40, "resamples": 50} if asked.quick else {}
    for layer in layers:
        advance(1)
        contrasts: dict[str, Contrast] = {name: cell.contrast(layer) for name, cell in usable.items()}
        if len(contrasts) < 2:
            continue
        similar[layer] = similarity_of(contrasts, seed=asked.seed, **draws)
        groups[layer] = {
            f"{kind}, {attribute}": grouped_by(heard, usable, similar[layer], kind, attribute, asked.seed)
            for kind in (REFUSED, HARM)
            for attribute in ("sentence", "where", "location")
        }
    return similar, groups


def grouped_by(
    heard: Mapping[str, Heard], usable: Mapping[str, Cell], similar: Similarity, kind: str, attribute: str, seed: int
) -> Grouped | None:
    """Return whether vectors of a kind are more alike where their forms, or their locations, are; None where that cannot be asked."""
    places = [place for place, name in enumerate(similar.names) if usable[name].kind == kind]
    own = [usable[similar.names[place]] for place in places]
    values = [cell.location if attribute == "location" else getattr(heard[cell.form].form, attribute) for cell in own]
    if len(own) < 3:
        return None
    return grouped(similar.matrix[places][:, places], values, seed=seed)


def notes_of(heard: Mapping[str, Heard], cells: Mapping[str, Cell]) -> tuple[str, ...]:
    """Return a line for each thing that a reader of the figures must know."""
    notes = []
    first = [cell for cell in cells.values() if cell.kind == REFUSED and cell.location == 1]
    if all(cell.empty for cell in first):
        counts = "; ".join(f"{cell.form}: {cell.empty}" for cell in first)
        notes.append(
            f"no form has a vector of refused against answered prompts ({counts}); give more phrases or --samples"
        )
    for name, one in heard.items():
        empty = sum(not reply.text.strip() for case in one.harmful for reply in case.every)
        if empty:
            total = sum(len(case.every) for case in one.harmful)
            notes.append(f"form {name}: {empty} of {total} replies are empty, and count as never refusing")
    return tuple(notes)


def vectors_to_save(found: Positions) -> dict[str, Float[Tensor, " d_model"]]:
    """Return the vectors by the names that they are saved under: plain, and at the first location projected too."""
    saved: dict[str, Tensor] = {}
    for cell in found.cells.values():
        if cell.empty is not None:
            continue
        place = f"{cell.location}" if cell.kind == REFUSED else f"{cell.location}-{cell.kind}"
        for layer in cell.layers:
            saved[f"{cell.form}/{place}/resid.{layer}"] = cell.vector(layer)
            if cell.location == 1:
                vector = projected(cell, layer, found.harmless_means)
                saved[f"{cell.form}/{place}-{PROJECTED}/resid.{layer}"] = vector
    return saved
