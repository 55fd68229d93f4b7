"""A direction of matched phrases in one form, at one place: the vector of a study of positions as the direction of a run.

The vectors of a study's folder are edited along by `apply --row`. A run makes its own anew, from phrases and forms that the
manifest names by their hashes, so that the manifest alone is enough to repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.cache import ActivationCache
from abliterate.directions.directions import Directions
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.models.source import Source
from abliterate.pipeline.form_options import HARM_PLACE, LATER_PLACES, FormOptions
from abliterate.pipeline.options import Options
from abliterate.projection import remove_component
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.forms import Form, Forms, load_forms
from abliterate.prompts.phrases import Phrases, load_phrases
from abliterate.prompts.texts import texts_of
from abliterate.storage.cache import cache_folder
from abliterate.storage.record_log import RecordLog
from abliterate.studies.positions.cells import Cell, Taken, harm_cell, later_cell, refused_cell, states_of
from abliterate.studies.positions.listen import Case, Heard, Listening, listen, safe_sentence
from abliterate.studies.positions.run import REPLY_TOKENS
from abliterate.studies.replies import Unit

SAMPLES = 4
"""Replies drawn for each train phrase where refused and answered ones are told apart, as a study draws them by default."""


@dataclass(frozen=True)
class OpenedForm:
    """The train part of the phrases, and the form that they are put in; `phrases` and `forms` are what was read."""

    place: str
    form: Form
    train: Phrases
    phrases: Phrases
    forms: Forms

    def texts(self, chat: ChatFormat) -> list[tuple[int, ...]]:
        """Return the token ids of both sides. Raises InputError as `texts_of`: for a form that the template cannot put."""
        return [text.tokens for side in ("harmful", "harmless") for text in texts_of(chat, self.form, self.train, side)]

    def record(self) -> dict[str, Any]:
        """Return what the manifest says of them."""
        return {
            "form": self.form.name,
            "place": self.place,
            "phrases": {"spec": self.phrases.name, "digest": self.phrases.digest, "train": len(self.train)},
            "forms": {"spec": self.forms.name, "digest": self.forms.digest},
        }


def open_form(options: FormOptions) -> OpenedForm | None:
    """Return the phrases and the form that the options name; None where the direction is that of the train prompts.

    Raises InputError for files that cannot be read, a form that is not there, and phrases none of which are of the train part.
    """
    if options.form is None:
        return None
    phrases, forms = load_phrases(options.phrases), load_forms(options.forms)
    return OpenedForm(options.place, forms[options.form], phrases.part("train"), phrases, forms)


def check_recorded_form(options: FormOptions, made: Mapping[str, Any]) -> None:
    """Raise InputError unless phrases and forms are those that a record names by their digests."""
    opened = open_form(options)
    if opened is None:
        return
    for name, own in (("phrases", opened.phrases), ("forms", opened.forms)):
        recorded = made.get(name)
        if not isinstance(recorded, dict) or recorded.get("digest") != own.digest:
            raise InputError(f"{own.spec}: holds other {name} than the run had; give them with --{name}")


def form_directions(
    live: LiveModel, opened: OpenedForm, options: Options, source: Source, kept: RecordLog | None = None
) -> Directions:
    """Return the directions of the phrases in their form at their place, one for each layer.

    Raises InputError where too few of them are refused, or answered, to make a vector of.
    """
    layers = tuple(range(1, live.architecture.depth + 1))
    cache = ActivationCache(cache_folder() / "activations", source.checkpoint.fingerprint())
    taken = Taken(layers, seed=options.seed, cache=cache, kept=kept)
    cell, usual = cell_of(live, opened, taken)
    if cell.empty is not None:
        raise InputError(f"--form {opened.form.name} --place {opened.place}: {cell.empty}; {way_out(opened.place)}")
    rows = torch.stack([cell.vector(layer) for layer in cell.layers])
    if options.direction == "projected":
        assert usual is not None
        rows = remove_component(rows, usual)
    differences = torch.cat([torch.zeros_like(rows[:1]), rows])[None]  # resid[0] knows one token alone
    metadata = {"model": source.public_name, "revision": source.revision, "made_of": opened.record()}
    return Directions(differences, (-1,), options.direction, metadata)


def way_out(place: str) -> str:
    """Return what may be done where a place has too few cases."""
    return "give more phrases" if place == HARM_PLACE else f"give more phrases, or take --place {HARM_PLACE}"


def cell_of(live: LiveModel, opened: OpenedForm, taken: Taken) -> tuple[Cell, Float[Tensor, "layers d_model"] | None]:
    """Return the vector's cell, and the mean of harmless states at the same place where there is one."""
    heard = unheard(live, opened) if opened.place == HARM_PLACE else heard_of(live, opened, taken)
    if opened.place in LATER_PLACES:
        return later_cell(live, heard, int(opened.place), taken), None
    states = states_of(live, heard, taken)
    usual = states.rows(heard.harmless, "harmless").double().mean(0)
    return (harm_cell if opened.place == HARM_PLACE else refused_cell)(states, taken), usual


def unheard(live: LiveModel, opened: OpenedForm) -> Heard:
    """Return the phrases in their form, without a reply: harmful against harmless needs none."""
    sides = [Unit.of(live, opened.form, opened.train, side) for side in ("harmful", "harmless")]
    harmful, harmless = (tuple(map(Case, unit.phrases, unit.texts)) for unit in sides)
    return Heard(opened.form, harmful, harmless)


def heard_of(live: LiveModel, opened: OpenedForm, taken: Taken) -> Heard:
    """Return the phrases in their form, and what the model says to the harmful ones."""
    asked = Listening(REPLY_TOKENS, SAMPLES, taken.seed, safe_sentence, taken.kept)
    heard, _ = listen(live, opened.train, Forms(opened.forms.spec, (opened.form,)), asked)
    return heard[opened.form.name]
